"""Exact parameter counts: per component, layer and head, from the architecture alone.

Some models need neither weights nor network: `known_configs.json` holds their architectures, as
their `config.json` on the hub states them. The totals agree with what was published: GPT-2
124,439,808; OPT-125M 125,239,296; Pythia-160M 162,322,944, of which 85,056,000 outside the
embeddings (EleutherAI's model card); BLOOM-560M 559,214,592 (BigScience's model card). mGPT has
1,417,596,928, which its authors round to 1.3 billion: in half precision, with the tied head and
the causal masks stored beside it, that is its file's 3.45 GB. SmolLM2-135M 134,515,008;
Qwen2.5-0.5B 494,032,768; Llama-3.2-1B 1,235,814,400; Mistral-7B 7,241,732,096. Of masked
models all that a masked token goes through, as torch counts in `BertForMaskedLM`: mBERT
177,974,523; XLM-R base 278,295,186.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from jaxprotect.models.axes import (
    COMPONENTS,
    ELIGIBLE,
    Component,
    Eligible,
    component,
    head_axis,
    is_eligible,
    is_weight,
    layer_axis,
)
from jaxprotect.models.config import ModelConfig, RotaryScaling
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths


def _known_configs() -> dict[str, ModelConfig]:
    known = json.loads(Path(__file__).with_name("known_configs.json").read_text())
    for fields in known.values():
        if "rotary_scaling" in fields:
            fields["rotary_scaling"] = RotaryScaling(**fields["rotary_scaling"])
    return {name: ModelConfig(**fields) for name, fields in known.items()}


_KNOWN = _known_configs()
_OTHER_NAMES = {
    "openai-community/gpt2": "gpt2",
    "sberbank-ai/mGPT": "ai-forever/mGPT",
    "bert-base-multilingual-cased": "google-bert/bert-base-multilingual-cased",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
}

KNOWN_MODELS: tuple[str, ...] = tuple(_KNOWN)
"""The hub ids whose census needs no network."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many parameters: what checkpoints name `weight`, and what they name `bias`."""

    weights: int = 0
    biases: int = 0

    @property
    def total(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    def __add__(self, other: "Count") -> "Count":
        """Sum of each kind."""
        return Count(weights=self.weights + other.weights, biases=self.biases + other.biases)


@dataclass(frozen=True, kw_only=True)
class Census:
    """The parameters of one architecture; a tied head is the token embedding and counts once.

    Args:
        name: the model's name, or its family where it has none.
        config: the architecture.
        leaves: leaf path -> number of parameters.
        components: component -> its parameters in the whole model; 0 where there are none.
        layer: component -> its parameters in one block. All blocks have the same size.
        attention_head: one head in one block: its slices of q, k, v and the output projection,
            which `masks.heads` protects. Keys and values that heads share count for each of
            them; the output projection's bias belongs to no head.
        eligible: policy -> the number of parameters that it quantizes.
    """

    name: str
    config: ModelConfig
    leaves: dict[str, int]
    components: dict[Component, Count]
    layer: dict[Component, Count]
    attention_head: Count
    eligible: dict[Eligible, int]

    @property
    def count(self) -> Count:
        """The whole model."""
        return sum(self.components.values(), start=Count())

    @property
    def total(self) -> int:
        """Number of parameters of the whole model."""
        return self.count.total

    def rows(self) -> list[dict[str, str | int | float | None]]:
        """The census as a table, one JSON object per row.

        Returns:
            Rows `{part, layer, head, weights, biases, total, share}`. `part` is `model`, a
            component, `block` or `attention_head`; `layer` and `head` are None where the row
            spans all of them; `share` is of the model's total.
        """
        layers, heads = range(self.config.layers), range(self.config.heads)
        block = sum(self.layer.values(), start=Count())
        parts = [("model", None, None, self.count)]
        parts += [(part, None, None, count) for part, count in self.components.items()]
        for layer in layers:
            parts += [("block", layer, None, block)]
            parts += [(part, layer, None, count) for part, count in self.layer.items()]
        parts += [
            ("attention_head", layer, head, self.attention_head)
            for layer in layers
            for head in heads
        ]
        return [
            {
                "part": part,
                "layer": layer,
                "head": head,
                "weights": count.weights,
                "biases": count.biases,
                "total": count.total,
                "share": count.total / self.total,
            }
            for part, layer, head, count in parts
        ]


def census(model_or_config: Model | ModelConfig) -> Census:
    """Count the parameters of an architecture, without looking at the weights.

    Args:
        model_or_config: a model, or only its architecture.

    Returns:
        Exact counts, as Python integers of any size.

    >>> count = census_of("gpt2")
    >>> count.total, count.components["attention"].weights
    (124439808, 28311552)
    """
    named = isinstance(model_or_config, Model)
    config = model_or_config.config if named else model_or_config
    shapes = {path: leaf.shape for path, leaf in leaf_paths(parameter_shapes(config)).items()}
    leaves = {path: math.prod(shape) for path, shape in shapes.items()}

    def counted(sizes: dict[str, int]) -> Count:
        weights = sum(size for path, size in sizes.items() if is_weight(path))
        return Count(weights=weights, biases=sum(sizes.values()) - weights)

    def by_component(sizes: dict[str, int]) -> dict[Component, Count]:
        return {
            part: counted({path: n for path, n in sizes.items() if component(path) == part})
            for part in COMPONENTS
        }

    in_layers = {
        path: n // config.layers for path, n in leaves.items() if layer_axis(path) is not None
    }
    in_heads = {
        path: n // shapes[path][axis]
        for path, n in in_layers.items()
        if (axis := head_axis(path)) is not None
    }
    return Census(
        name=model_or_config.name if named else config.family,
        config=config,
        leaves=leaves,
        components=by_component(leaves),
        layer={part: n for part, n in by_component(in_layers).items() if n.total},
        attention_head=counted(in_heads),
        eligible={
            policy: sum(n for path, n in leaves.items() if is_eligible(path, policy))
            for policy in ELIGIBLE
        },
    )


def census_of(name_or_folder: str | Path, *, revision: str | None = None) -> Census:
    """The census of a model by name; no weights are fetched, and for known models nothing is.

    Args:
        name_or_folder: one of `KNOWN_MODELS`, `reference`, a Hugging Face folder or a hub id.
        revision: branch, tag or commit of the hub repository.

    Returns:
        Exact counts.

    Raises:
        InputError: there is no such model, or its architecture is not supported.
    """
    name = str(name_or_folder)
    known = _KNOWN.get(_OTHER_NAMES.get(name, name))
    if known is None or revision is not None or Path(name).is_dir():
        from jaxprotect.models.hub import fetch_config  # imports transformers, which is slow

        known = fetch_config(name_or_folder, revision=revision)
    return replace(census(known), name=name)


def brief_comparison() -> list[dict[str, str | int]]:
    """GPT-2's parameters as the study behind this project counted them, beside the exact counts.

    Returns:
        Rows `{quantity, brief, exact, difference, why}`; `difference` is brief - exact.
    """
    gpt2 = census_of("gpt2")
    parts, block = gpt2.components, sum(gpt2.layer.values(), start=Count())
    agrees = "the same"
    figures = [
        (
            "all parameters",
            124_337_664,
            gpt2.total,
            f"counts only tensors named `weight`, so all {gpt2.count.biases:,} biases are missing; "
            "right as the denominator of the seed protocol, which quantizes exactly those",
        ),
        ("token embeddings", 38_597_376, parts["token_embedding"].total, agrees),
        ("attention weights", 28_311_552, parts["attention"].weights, agrees),
        (
            "MLP weights",
            57_428_736,
            parts["mlp"].weights,
            "the remainder after token embeddings and attention, so it holds the position "
            f"embeddings ({parts['position_embedding'].total:,}) and the norms' gains "
            f"({parts['norms'].weights:,}), which are listed a second time by themselves",
        ),
        ("position embeddings", 786_432, parts["position_embedding"].total, agrees),
        ("norms, gains and biases", 38_400, parts["norms"].total, agrees),
        (
            "one block",
            7_079_424,
            block.total,
            f"its weights without its {block.biases:,} biases, where the seed protocol protects "
            "a layer",
        ),
    ]
    return [
        {"quantity": name, "brief": brief, "exact": exact, "difference": brief - exact, "why": why}
        for name, brief, exact, why in figures
    ]
