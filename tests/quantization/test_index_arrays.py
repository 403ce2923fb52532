import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprotect.errors import InputError
from jaxprotect.quantization.index_arrays import ARRAYS, index_layout, read_index, write_index
from jaxprotect.quantization.indices import count_flags, index_bytes


def check(flags: np.ndarray) -> str:
    """The laws of an index; returns its format."""
    counts = count_flags(flags, flags.shape, (1,))
    index_format, arrays = write_index(flags)
    assert (index_format, sum(array.nbytes for array in arrays.values())) == index_bytes(counts)
    written = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    assert (index_format, written) == index_layout(counts)
    assert tuple(written) == ARRAYS[index_format]
    found = read_index(arrays, flags.shape, whole=index_format == "whole")
    np.testing.assert_array_equal(found, flags)
    return index_format


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.002, 0.02, 0.2, 0.9, 1.0]),
    st.sampled_from(["scattered", "rows", "columns"]),
    st.integers(0, 99),
)
def test_any_mask_comes_back_from_the_bytes_predicted(outputs, inputs, share, kind, seed):
    draws = np.random.default_rng(seed)
    size = {"scattered": (outputs, inputs), "rows": (outputs, 1), "columns": (1, inputs)}[kind]
    check(np.broadcast_to(draws.random(size) < share, (outputs, inputs)).copy())


def few(shape: tuple[int, int], count: int) -> np.ndarray:
    """Scattered flags, the last weight among them."""
    flags = np.zeros(shape, bool)
    places = np.random.default_rng(0).choice(flags.size - 1, count - 1, replace=False)
    flags.reshape(-1)[[*places, flags.size - 1]] = True
    return flags


@pytest.mark.parametrize(
    ("flags", "index_format"),
    [
        (np.zeros((3, 4), bool), "none"),
        (np.ones((3, 4), bool), "whole"),
        (np.isin(np.arange(70_000), [3, 69_999])[:, None] & np.ones(8, bool), "rows"),
        (np.isin(np.arange(70_000), [3, 69_999]) & np.ones((8, 1), bool), "columns"),
        (few((300, 300), 9), "coordinate"),
        (few((20, 256), 200), "sparse"),
        (few((20, 257), 200), "sparse"),
        (few((2, 65_536), 300), "sparse"),
        (few((7, 9), 30), "bitmap"),
    ],
)
def test_every_format_with_its_narrow_and_wide_numbers(flags, index_format):
    assert check(np.ascontiguousarray(flags)) == index_format


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"index.rows": [9]}, r"the rows index does not fit \(2, 8\): index 9"),
        ({"index.columns": [8]}, "the columns index does not fit"),
        ({"index.coordinate": [16]}, "the coordinate index does not fit"),
        ({"index.counts": [1, 1], "index.sparse": [3]}, "1 columns for counts that sum to 2"),
        ({"index.counts": [1], "index.sparse": [9]}, "the sparse index does not fit"),
        ({"index.counts": [1, 0]}, r"the index has the arrays \('index.counts',\)"),
        ({"index.rows": [0], "index.columns": [0]}, "the index has the arrays"),
        ({"index.bitmap": [1]}, "the bitmap index does not fit"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(arrays, message):
    wrong = {name: np.array(values, np.uint16) for name, values in arrays.items()}
    with pytest.raises(InputError, match=message):
        read_index(wrong, (2, 8))
