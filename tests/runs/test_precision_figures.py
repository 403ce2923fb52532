"""Figures of mixed precision: the numbers that they show."""

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.quantization.precision import uniform_bits, unit_ids
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.precision_figures import allocation_map, damage_over_bytes, mean_bits
from tests.tiny import random_params


def test_means_stand_where_their_tensor_is():
    bits = uniform_bits(unit_ids(random_params(), "channel", QuantSpec()), 3)
    bits["blocks/mlp/up/kernel"][1] = 5
    bits["embed/tokens"][:] = 8
    rows, columns, values = mean_bits(bits)
    assert rows == ["layer 0", "layer 1", "embed/positions", "embed/tokens"]
    assert columns == ["attention/out", "attention/qkv", "mlp/down", "mlp/up", "itself"]
    assert values[1, columns.index("mlp/up")] == 5
    assert values[3, -1] == 8
    assert values[0, columns.index("mlp/up")] == 3
    assert np.isnan(values[:2, -1]).all()
    assert np.isnan(values[2:, :-1]).all()


def test_the_words_name_most_and_least(tmp_path):
    bits = uniform_bits(unit_ids(random_params(), "channel", QuantSpec()), 3)
    bits["blocks/mlp/up/kernel"][1] = 5
    bits["embed/tokens"][:] = 2
    drawing = allocation_map(tmp_path / "bits.png", bits, title="Where?")
    assert "Most: layer 1, mlp/up with 5.00; least: embed/tokens, itself with 2.00" in drawing.alt
    assert (tmp_path / "bits.png").read_bytes() == drawing.png
    with pytest.raises(InputError, match="`bits` is empty"):
        allocation_map(tmp_path / "none.png", {}, title="Where?")


def test_curves_name_the_best(tmp_path):
    rows = [
        {"label": f"m{i}", "bytes": 2**20 * size, "worst_relative": 0.1 / size / (1 + i)}
        for i in range(12)
        for size in (1, 2)
    ]
    rows.append({"label": "lost", "bytes": 2**20, "worst_relative": -0.1})
    drawing = damage_over_bytes(tmp_path / "curves.png", rows)
    assert "12 methods; the smallest is 0.42 % by m11 at 2.00 MiB" in drawing.alt
    with pytest.raises(InputError, match="`rows` has no damage above 0"):
        damage_over_bytes(tmp_path / "none.png", rows[-1:])
