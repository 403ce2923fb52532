"""Exp-019's variants: which prefix before which weights; and the prefixes, kept on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.models.model import Model
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.prefix import Prefix, round_prefix
from jaxprotect.models.transformer import Params
from jaxprotect.runs.prefix_files import load_prefix, save_prefix
from jaxprotect.runs.results import ORIGINAL
from jaxprotect.selection.prefix_choice import choose_prefix, frequent_tokens, pivot_tokens
from jaxprotect.selection.prefix_learning import PrefixLearning, learn_prefix

Kind = Literal["plain", "start", "chosen", "learned", "adapted"]


@dataclass(frozen=True, kw_only=True)
class PrefixVariant:
    """One set of weights with one prefix before every sentence.

    Args:
        name: unique in a run.
        weights: `original`, or a quantizer of Exp-009.
        kind: `plain` (no prefix), `start`, `chosen`, `learned` (for these weights), or `adapted`
            (learned for the original weights).
        prefix: name of the prefix; None without one.
        positions: tokens of the prefix.
        control: the variant that says what the treatment does to the original weights; None
            where that is nothing, and for controls.
    """

    name: str
    weights: str
    kind: Kind
    prefix: str | None = None
    positions: int = 0
    control: str | None = None


def plan(
    quantizers: Sequence[str], chosen: Sequence[int], learned: Sequence[int]
) -> list[PrefixVariant]:
    """All variants, each after its control.

    Args:
        quantizers: of Exp-009.
        chosen: numbers of tokens added to the start token.
        learned: lengths of learned prefixes.

    Returns:
        The variants in the order of measurement.
    """
    own = {length: f"{ORIGINAL}--learned-{length}" for length in learned}
    made = [_learned(ORIGINAL, name, name, length) for length, name in own.items()]
    for weights in quantizers:
        made.append(PrefixVariant(name=weights, weights=weights, kind="plain"))
        made.append(
            PrefixVariant(
                name=f"{weights}--start", weights=weights, kind="start", prefix="start", positions=1
            )
        )
        for added in chosen:
            name = f"{weights}--chosen-{added}"
            same = f"{name}--{ORIGINAL}"
            made.append(_chosen(ORIGINAL, same, name, added))
            made.append(_chosen(weights, name, name, added, same))
        for length, control in own.items():
            name = f"{weights}--learned-{length}"
            made.append(_learned(ORIGINAL, f"{name}--{ORIGINAL}", name, length))
            # A learned prefix may harm the original, and what it does there would flatter: the
            # control is a prefix trained for the original as hard.
            made.append(_learned(weights, name, name, length, control))
            adapted = f"{weights}--adapted-{length}"
            made.append(
                replace(_learned(weights, adapted, control, length, control), kind="adapted")
            )
    return made


def _chosen(
    weights: str, name: str, prefix: str, added: int, control: str | None = None
) -> PrefixVariant:
    return PrefixVariant(
        name=name,
        weights=weights,
        kind="chosen",
        prefix=prefix,
        positions=added + 1,
        control=control,
    )


def _learned(
    weights: str, name: str, prefix: str, length: int, control: str | None = None
) -> PrefixVariant:
    return PrefixVariant(
        name=name,
        weights=weights,
        kind="learned",
        prefix=prefix,
        positions=length,
        control=control,
    )


@dataclass(frozen=True, kw_only=True)
class PrefixMaker:
    """What prefixes are made from, and where they are kept.

    Args:
        folder: of the prefix files; what is there is not made again.
        model: the original model.
        start: its start token.
        encoded: the select sentences, with room for every prefix.
        base: the original's evaluation of them.
        few: the sentences by which tokens are chosen, and `few_base` their evaluation.
        few_base: see `few`.
        candidates: how many frequent and how many pivot tokens are tried.
        steps: most tokens added to the start token.
        objective: of the choice.
        learning: options of the training.
    """

    folder: Path
    model: Model
    start: int
    encoded: Encoded
    base: Evaluation
    few: Encoded
    few_base: Evaluation
    candidates: int
    steps: int
    objective: str
    learning: PrefixLearning

    def make(self, variant: PrefixVariant, weights: Params) -> Prefix | None:
        """The prefix of a variant, from disk where it is there.

        Args:
            variant: the variant.
            weights: the weights that the prefix is made for: the quantized ones of a chosen
                prefix, the original or quantized ones of a learned prefix.

        Returns:
            The prefix in half precision; None for plain variants.
        """
        if variant.prefix is None:
            return None
        path = self._path(variant.prefix)
        if not path.exists():
            if variant.kind == "start":
                made = {"start": make_prefix(self.model.params, [self.start], self.model.config)}
            elif variant.kind == "chosen":
                made = self._choose(variant.prefix.rsplit("-", 1)[0], weights)
            else:
                made = {variant.prefix: self._learn(variant.positions, weights)}
            for name, prefix in made.items():
                save_prefix(self._path(name), prefix, self.model)
        return load_prefix(path, self.model)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _choose(self, name: str, quantized: Params) -> dict[str, Prefix]:
        config, params = self.model.config, self.model.params
        pivots = pivot_tokens(params, self.start, config, self.candidates)
        path = choose_prefix(
            params,
            quantized,
            self.few,
            self.few_base,
            config,
            start=self.start,
            candidates=(*frequent_tokens(self.encoded, self.candidates), *pivots),
            steps=self.steps,
            objective=self.objective,
        )
        return {
            f"{name}-{added}": make_prefix(params, step.tokens, config)
            for added, step in enumerate(path)
            if added > 0
        }

    def _learn(self, positions: int, weights: Params) -> Prefix:
        more = frequent_tokens(self.encoded, positions)[: positions - 1]
        # Texts with fewer tokens than positions: the start token again.
        tokens = [self.start] * (positions - len(more)) + list(more)
        first = round_prefix(make_prefix(self.model.params, tokens, self.model.config))
        return learn_prefix(
            weights, first, self.encoded, self.base, self.model.config, options=self.learning
        )
