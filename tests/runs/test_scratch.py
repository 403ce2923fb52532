import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.scratch import scratch_in


def test_large_arrays_are_files_without_a_name(tmp_path):
    allocate = scratch_in(tmp_path, large=400)
    small, large = allocate((3, 33)), allocate((4, 25))
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    assert large.shape == (4, 25)
    assert large.dtype == np.float32
    large[...] = 7
    np.testing.assert_array_equal(large, np.full((4, 25), 7))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room(tmp_path):
    with pytest.raises(InputError, match=r"has no room for 4,611,686,018,427,387,904 bytes"):
        scratch_in(tmp_path)((2**60,))
