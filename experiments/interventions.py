"""The protections that the experiments try, each a named variant of one quantizer."""

from collections.abc import Sequence

from experiments.common import Setup
from jaxprotect.runs.sweep import Variant
from jaxprotect.selection import masks

Variants = list[Variant]


def nothing(setup: Setup) -> Variant:
    """Plain quantization."""
    return Variant(
        name="none",
        intervention={"kind": "none"},
        spec=setup.quantizer,
        mask=masks.none,
    )


def magnitude(setup: Setup, fraction: float) -> Variant:
    """The largest |w| over the whole model; the seed protocol takes all ties with the last."""
    spec = setup.quantizer
    masks.target_count(0, None, fraction)  # refuses a bad fraction before anything is measured
    return Variant(
        name=f"magnitude-{fraction:g}",
        intervention={"kind": "magnitude", "fraction": fraction},
        spec=spec,
        mask=lambda params: masks.by_magnitude(
            params, fraction=fraction, eligible=spec.eligible, ties=setup.ties
        ),
    )


def random_control(setup: Setup, fraction: float, seed: int) -> Variant:
    """As many weights, drawn uniformly."""
    spec = setup.quantizer
    masks.target_count(0, None, fraction)
    return Variant(
        name=f"random-{fraction:g}-seed{seed}",
        intervention={"kind": "random", "fraction": fraction, "seed": seed},
        spec=spec,
        mask=lambda params: masks.random(
            params, fraction=fraction, eligible=spec.eligible, seed=seed
        ),
    )


def layers(setup: Setup, chosen: Sequence[int]) -> Variant:
    """Whole blocks."""
    return Variant(
        name="layers-" + "-".join(map(str, chosen)),
        intervention={"kind": "layers", "layers": list(chosen)},
        spec=setup.quantizer,
        mask=lambda params: masks.layers(params, chosen),
    )


def attention(setup: Setup, layer: int | None = None) -> Variant:
    """The attention weights of one layer, or of all."""
    if layer is None:
        return components(setup, ("attention",))
    return Variant(
        name=f"attention-layer-{layer}",
        intervention={"kind": "components", "components": ["attention"], "layers": [layer]},
        spec=setup.quantizer,
        mask=lambda params: masks.intersection(
            masks.components(params, ["attention"]), masks.layers(params, [layer])
        ),
    )


def heads(setup: Setup, layer: int, head: int) -> Variant:
    """One attention head: its slices of q, k, v and the output projection."""
    return Variant(
        name=f"head-{layer}-{head}",
        intervention={"kind": "heads", "layer": layer, "head": head},
        spec=setup.quantizer,
        mask=lambda params: masks.heads(params, {layer: [head]}),
    )


def components(setup: Setup, chosen: Sequence[str]) -> Variant:
    """Whole components, in every layer."""
    return Variant(
        name="+".join(chosen),
        intervention={"kind": "components", "components": list(chosen)},
        spec=setup.quantizer,
        mask=lambda params: masks.components(params, chosen),
    )
