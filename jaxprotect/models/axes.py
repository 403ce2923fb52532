"""What each axis of each parameter means, named once for quantizers, masks and meshes."""

from typing import Literal, get_args

Component = Literal["attention", "mlp", "token_embedding", "position_embedding", "norms", "head"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

Eligible = Literal["matrices", "weights", "everything"]
"""Which leaves are quantized at all, see `is_eligible`."""
ELIGIBLE: tuple[Eligible, ...] = get_args(Eligible)

_PROJECTED = {"q": "heads", "k": "key_heads", "v": "key_heads"}
_HEADS = ("heads", "key_heads")
_INTO_MLP = ("up", "gate")
_BLOCK_NORMS = ("norm_attention", "norm_mlp")
_TABLES = ("embed/tokens", "embed/positions", "embed/types")

AXES: dict[str, tuple[str, ...]] = (
    {
        "embed/tokens": ("vocab", "embed"),
        "embed/positions": ("position", "embed"),
        "embed/types": ("type", "embed"),
        "embed/norm/scale": ("embed",),
        "embed/norm/bias": ("embed",),
        "blocks/attention/qkv/kernel": ("layer", "embed", "qkv", "heads", "head_dim"),
        "blocks/attention/qkv/bias": ("layer", "qkv", "heads", "head_dim"),
        "blocks/attention/out/kernel": ("layer", "heads", "head_dim", "embed"),
        "blocks/attention/out/bias": ("layer", "embed"),
        "blocks/mlp/down/kernel": ("layer", "mlp", "embed"),
        "blocks/mlp/down/bias": ("layer", "embed"),
        "norm/scale": ("embed",),
        "norm/bias": ("embed",),
        "head/transform/kernel": ("embed", "transformed"),
        "head/transform/bias": ("transformed",),
        "head/kernel": ("embed", "vocab"),
        "head/bias": ("vocab",),
    }
    | {
        f"blocks/attention/{n}/kernel": ("layer", "embed", heads, "head_dim")
        for n, heads in _PROJECTED.items()
    }
    | {
        f"blocks/attention/{n}/bias": ("layer", heads, "head_dim")
        for n, heads in _PROJECTED.items()
    }
    | {f"blocks/mlp/{n}/kernel": ("layer", "embed", "mlp") for n in _INTO_MLP}
    | {f"blocks/mlp/{n}/bias": ("layer", "mlp") for n in _INTO_MLP}
    | {f"blocks/{n}/{leaf}": ("layer", "embed") for n in _BLOCK_NORMS for leaf in ("scale", "bias")}
)
"""Leaf path -> the name of each of its axes."""

_CONTRACTED: dict[str, tuple[str, ...]] = {
    "blocks/attention/out/kernel": ("heads", "head_dim"),
    "blocks/mlp/down/kernel": ("mlp",),
}


def contracted_axes(path: str) -> tuple[int, ...]:
    """The axes of a matrix that its product sums over: the inputs; the rest are outputs.

    A row of an embedding is an output: a channel of the tied head, or one position.

    Args:
        path: leaf path, a key of `AXES`.

    Returns:
        Axis indices in order; empty for norms and biases.

    >>> contracted_axes("blocks/attention/out/kernel")
    (1, 2)
    """
    if not is_matrix(path):
        return ()
    names = _CONTRACTED.get(path, ("embed",))
    return tuple(i for i, name in enumerate(AXES[path]) if name in names)


def layer_axis(path: str) -> int | None:
    """The axis that stacks the blocks, or None outside them."""
    return _index(path, "layer")


def head_axis(path: str) -> int | None:
    """The axis that separates attention heads, or None where there is none.

    Several heads may share keys and values; along k and v it then has fewer entries.
    """
    return next((i for i, name in enumerate(AXES[path]) if name in _HEADS), None)


def is_matrix(path: str) -> bool:
    """Whether the leaf is a kernel or an embedding, not a norm or a bias."""
    return path.endswith("/kernel") or path in _TABLES


def is_weight(path: str) -> bool:
    """Whether checkpoints name the leaf `weight`: kernels, embeddings and norm scales."""
    return not path.endswith("/bias")


def is_eligible(path: str, eligible: Eligible) -> bool:
    """Whether a policy quantizes the leaf at all.

    Args:
        path: leaf path, a key of `AXES`.
        eligible: `matrices`: kernels and embeddings; `weights`: also norm scales, everything that
            checkpoints name `weight` (the seed protocol); `everything`: biases too.

    Returns:
        True when the leaf's weights are eligible.
    """
    if eligible == "matrices":
        return is_matrix(path)
    return eligible == "everything" or is_weight(path)


def component(path: str) -> Component:
    """The part of the model that the leaf belongs to; biases go with their matrix.

    BERT's token types say where a token stands, so they go with the positions; the dense layer
    before the head of a masked model goes with the head.

    Args:
        path: leaf path, a key of `AXES`.

    Returns:
        One of `COMPONENTS`.

    >>> component("blocks/mlp/up/bias")
    'mlp'
    """
    parts = path.split("/")
    if any(part.startswith("norm") for part in parts):
        return "norms"
    if parts[0] == "embed":
        return "token_embedding" if parts[1] == "tokens" else "position_embedding"
    if parts[0] == "head":
        return "head"
    return "attention" if parts[1] == "attention" else "mlp"


def _index(path: str, name: str) -> int | None:
    axes = AXES[path]
    return axes.index(name) if name in axes else None
