"""The weights of largest |w| of a checkpoint that stays in its files: two passes over them."""

import math

import numpy as np

from jaxprotect.counting import kth_of_read
from jaxprotect.cuts import Cut, cut_at, empty_cut
from jaxprotect.models.axes import Eligible, is_eligible
from jaxprotect.models.stored_model import StoredModel, read_stored
from jaxprotect.progress import progress
from jaxprotect.quantization.matrices import tensor_shape
from jaxprotect.quantization.tensorwise import tensors_of
from jaxprotect.selection.topk import target_count


def magnitude_cut(
    model: StoredModel,
    *,
    count: int | None = None,
    fraction: float | None = None,
    eligible: Eligible = "matrices",
) -> Cut:
    """Where the largest |w| end: what `by_magnitude` protects, of a model larger than memory.

    The files are read twice, tensor by tensor; not at all if nothing is to be protected.

    Args:
        model: the checkpoint.
        count: k, the number of weights; give this or `fraction`.
        fraction: share of the eligible weights, 0 to 1.
        eligible: which leaves take part.

    Returns:
        The cut, for `evaluate_streamed`; exactly k weights are above it.

    Raises:
        InputError: `count` or `fraction` out of range, both or neither given, or values that are
            not finite.
    """
    places = tensors_of(model.config)
    sizes = {
        name: math.prod(tensor_shape(path, shape))
        for name, (path, _, shape) in places.items()
        if is_eligible(path, eligible)
    }
    k = target_count(sum(sizes.values()), count, fraction)
    if k == 0:
        return empty_cut(sizes)
    with progress(desc="rank", unit="tensor", total=2 * len(sizes)) as bar:

        def read(name: str) -> np.ndarray:
            bar.update()
            path, layer, _ = places[name]
            # Counting does not mind the order, and other memory it would copy.
            return np.abs(read_stored(model, path, layer)).ravel(order="K")

        key, above, equal = kth_of_read(list(sizes), read, k)
    return cut_at(key, equal, sizes, k - above)
