"""Proof that a calibration did something: codes and levels beside those of plain absmax."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from jaxprotect.errors import InputError
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import is_eligible
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.grid import Bits, Grids, compiled_leaf_grid
from jaxprotect.quantization.quantize import Mask, decode_leaf, encode_leaf
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.trees import leaf_paths


def changed_codes(
    params: Params,
    mask: Mask,
    spec: QuantSpec,
    *,
    calibrated: Params | None = None,
    grids: Grids | None = None,
    bits: Bits | None = None,
) -> dict[str, float]:
    """Share of each leaf's unprotected weights whose code is not that of plain absmax ranges.

    Args:
        params: the unquantized parameter tree.
        mask: what is protected.
        spec: the calibrated quantizer.
        calibrated: the weights that it quantizes, if not `params`, such as compensated ones.
        grids: its grids; by `spec.ranges` where not given.
        bits: see `grid.Bits`.

    Returns:
        Eligible leaf -> share, 0 where all its weights are protected.

    Raises:
        InputError: a calibration that did nothing: every code and every level of every leaf is
            the one that plain absmax gives.
    """
    after = leaf_paths(params if calibrated is None else calibrated)
    flags, usual = leaf_paths(mask), replace(spec, ranges="absmax")
    shares, moved = {}, False
    for path, weights in leaf_paths(params).items():
        if not is_eligible(path, spec.eligible):
            continue
        free = ~np.broadcast_to(on_host(flags[path]), weights.shape)
        protected = jnp.asarray(flags[path])
        plain = compiled_leaf_grid(weights, protected, path, usual, bits)
        grid = (grids or {}).get(path)
        if grid is None:
            grid = compiled_leaf_grid(weights, protected, path, spec, bits)
        before, now = (
            encode_leaf(leaf, of_leaf, path, spec, bits)
            for leaf, of_leaf in ((weights, plain), (after[path], grid))
        )
        shares[path] = float(np.mean((before != now)[free])) if free.any() else 0.0
        usual_levels, levels = (
            on_host(decode_leaf(codes, of_leaf, path, spec, bits))[free]
            for codes, of_leaf in ((before, plain), (now, grid))
        )
        moved = moved or not np.array_equal(usual_levels, levels)
    if not moved:
        raise InputError(
            f"`grids` and `calibrated` leave every code and level of {spec.label} as absmax has "
            "them: the calibration did nothing"
        )
    return shares
