"""The calibrations that Exp-018 compares: how each is fitted, on which languages, for any mask."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.quantization.changes import changed_codes
from jaxprotect.quantization.grid import Grids
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.spec import QuantSpec, Ranges
from jaxprotect.quantization.weighted import weighted_mse_grids
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.runs.statistics_store import StatisticsStore
from jaxprotect.selection import masks
from jaxprotect.selection.compensated import compensate
from jaxprotect.selection.guided import Choice, language_guided
from jaxprotect.selection.importance import language_importance, relative_weights
from jaxprotect.selection.learned_ranges import Learning, learn_ranges
from jaxprotect.trees import leaf_paths

IMPORTANCE: dict[Ranges, str] = {"activation_mse": "inputs", "fisher_mse": "fisher"}
"""Ranges of weighted error -> what weighs it."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to calibrate.

    Args:
        name: in words.
        ranges: what blocks reach to.
        compensated: whether errors are made up for (GPTQ).
        minimax: languages count by the multipliers of the guided choice, not alike.
        objective: of learned ranges.
    """

    name: str
    ranges: Ranges
    compensated: bool = False
    minimax: bool = False
    objective: str = "mean"

    @property
    def reads_text(self) -> bool:
        """Whether it depends on sentences."""
        return self.compensated or self.ranges in (*IMPORTANCE, "learned")


METHODS = {
    "absmax": Method(name="absmax", ranges="absmax"),
    "percentile": Method(name="percentile 99.9", ranges="percentile"),
    "mse": Method(name="MSE", ranges="mse"),
    "aciq": Method(name="ACIQ", ranges="aciq"),
    "activation_mse": Method(name="activation MSE", ranges="activation_mse"),
    "activation_mse_minimax": Method(
        name="activation MSE, minimax", ranges="activation_mse", minimax=True
    ),
    "fisher_mse": Method(name="Fisher MSE", ranges="fisher_mse"),
    "fisher_mse_minimax": Method(name="Fisher MSE, minimax", ranges="fisher_mse", minimax=True),
    "learned": Method(name="learned, mean", ranges="learned"),
    "learned_worst": Method(name="learned, worst language", ranges="learned", objective="worst"),
    "gptq_absmax": Method(name="GPTQ on absmax", ranges="absmax", compensated=True),
    "gptq_mse": Method(name="GPTQ on MSE", ranges="mse", compensated=True),
    "gptq_mse_minimax": Method(
        name="GPTQ on MSE, minimax", ranges="mse", compensated=True, minimax=True
    ),
}
"""Name in a run -> method."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A model ready to be quantized.

    Args:
        params: its weights: the original ones, or compensated ones.
        grids: grids that do not follow from `spec.ranges`.
        spec: the quantizer.
        mask: what is protected.
        changed: share of the unprotected weights whose code is not that of absmax ranges.
    """

    params: Params
    grids: Grids | None
    spec: QuantSpec
    mask: Mask
    changed: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What calibrations of one quantizer are fitted on; none of it from test sentences.

    Args:
        model: the unquantized model.
        spec: the quantizer with absmax ranges.
        store: statistics of the select sentences.
        select: these sentences in tokens.
        protect: share of the weights that the guided choice protects.
        steps: of learned ranges.
    """

    model: Model
    spec: QuantSpec
    store: StatisticsStore
    select: Encoded
    protect: float = 0.0
    steps: int = 60

    @functools.cached_property
    def choice(self) -> Choice:
        """The guided choice, in the surrogate corrected by plain damages on select.

        Its multipliers say which languages need help; with nothing to protect, as they are when
        1 % is.
        """
        params, config = self.model.params, self.model.config
        base = evaluate_encoded(params, self.select, config)
        plain = quantize_tree(params, masks.none(params), self.spec, config)
        total = masks.eligible_count(params, self.spec.eligible)
        return language_guided(
            params,
            {language: self.store.square(language) for language in self.store.nats},
            self.store.nats,
            self.spec,
            count=masks.target_count(total, None, self.protect or 0.01),
            unprotected=relative_damages(base, evaluate_encoded(plain, self.select, config)),
        )

    @functools.cached_property
    def mask(self) -> Mask:
        """What is protected."""
        return self.choice.mask if self.protect else masks.none(self.model.params)


def fit(
    method: Method, material: Material, multipliers: Mapping[str, float] | None = None
) -> Calibrated:
    """Calibrate one quantizer by one method.

    Args:
        method: how.
        material: on what.
        multipliers: language -> how much its damage counts, over its original nats; as the method
            says if not given.

    Returns:
        The calibrated model.

    Raises:
        InputError: a calibration that changed nothing.
    """
    model, mask = material.model, material.mask
    spec = replace(material.spec, ranges=method.ranges)
    store = material.store
    if multipliers is None and method.reads_text:
        alike = dict.fromkeys(store.nats, 1.0)
        multipliers = material.choice.multipliers if method.minimax else alike
    grids, params = None, model.params
    if method.ranges in IMPORTANCE:
        assert multipliers is not None
        importance = language_importance(
            store.load, multipliers, store.nats, IMPORTANCE[method.ranges]
        )
        grids = weighted_mse_grids(params, mask, spec, importance)
    elif method.ranges == "learned":
        options = Learning(objective=method.objective, steps=material.steps)
        grids = learn_ranges(
            params,
            mask,
            spec,
            model.config,
            material.select,
            multipliers=multipliers,
            options=options,
        ).grids
    if method.compensated:
        assert multipliers is not None
        params = compensate(
            params,
            mask,
            spec,
            model.config,
            material.select,
            weights=relative_weights(multipliers, store.nats),
            grids=grids,
        )
    changed = 0.0
    if method.reads_text or method.ranges != "absmax":
        changed = _changed(material, spec, params, grids)
    return Calibrated(params=params, grids=grids, spec=spec, mask=mask, changed=changed)


def _changed(material: Material, spec: QuantSpec, params: Params, grids: Grids | None) -> float:
    original, mask = material.model.params, material.mask
    shares = changed_codes(original, mask, spec, calibrated=params, grids=grids)
    flags, leaves = leaf_paths(mask), leaf_paths(original)
    free = {
        path: leaves[path].size - int(np.broadcast_to(flags[path], leaves[path].shape).sum())
        for path in shares
    }
    return sum(share * free[path] for path, share in shares.items()) / max(1, sum(free.values()))
