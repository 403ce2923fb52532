"""The weights of largest |w| of a checkpoint that stays in its files: two passes over them."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from jaxprotect.counting import kth_by_counting
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
    sizes = {
        name: math.prod(tensor_shape(path, shape))
        for name, (path, _, shape) in tensors_of(model.config).items()
        if is_eligible(path, eligible)
    }
    k = target_count(sum(sizes.values()), count, fraction)
    if k == 0:
        return empty_cut(sizes)
    key, above, equal = kth_by_counting(_Magnitudes(model, list(sizes)), k)
    return cut_at(key, equal, sizes, k - above)


class _Magnitudes(Mapping[str, np.ndarray]):
    """|w| by tensor, each read when it is looked at."""

    def __init__(self, model: StoredModel, names: list[str]) -> None:
        self.model, self.names, self.places = model, names, tensors_of(model.config)

    def __getitem__(self, name: str) -> np.ndarray:
        path, layer, _ = self.places[name]
        # Counting does not mind the order, and other memory it would copy.
        return np.abs(read_stored(self.model, path, layer)).ravel(order="K")

    def __iter__(self) -> Iterator[str]:
        return iter(progress(self.names, desc="rank", unit="tensor"))

    def __len__(self) -> int:
        return len(self.names)
