"""`jaxprotect evaluate`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxprotect.commands.options import (
    PlacedModelOptions,
    Reference,
    Split,
    Switch,
    TextOptions,
    group,
    print_json,
)
from jaxprotect.host_start import Hosts
from jaxprotect.quantization.spec import QuantSpec

COPIES = {False: 1.25, True: 3.5}
"""Quantizing, too? -> most memory that the weights take, in float32 copies of them, as measured."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure every language; with --quantize, what quantization costs.

    Examples:
        jaxprotect evaluate --languages eng_Latn tam_Taml
        jaxprotect evaluate --quantize --bits 3 --protect 0.01
        jaxprotect evaluate --model gpt2 --texts flores --quantize --json

    Args:
        source: where the model comes from.
        weights: where they are: in `memory`, or in their `files`, read block by block, on one
            device; `auto` leaves them in files where they do not fit.
        hosts: several of them as one job.
        measured: what it is measured on.
        split: sentences to measure on.
        start: `prefix` scores every token after a start token; `shift` is the seed protocol's,
            for causal models.
        masking: what a masked model does not see of a sentence when it scores a token: the `token`
            alone, or also the rest of its `word`.
        quantize: also quantize, and report the damage.
        protect: share of the eligible weights to keep, largest |w| first (with --quantize).
        spec: how weights are rounded (with --quantize).
        reference: languages whose mean relative damage the disparity divides by.
        draws: bootstrap draws.
        json: print one JSON document.
    """

    source: Annotated[PlacedModelOptions, group("model")] = PlacedModelOptions()
    weights: Literal["auto", "memory", "files"] = "auto"
    hosts: Annotated[Hosts, group("hosts")] = Hosts()
    measured: Annotated[TextOptions, group("texts")] = TextOptions()
    split: Split = "test"
    start: Literal["prefix", "shift"] = "prefix"
    masking: Literal["token", "word"] = "token"
    quantize: Switch = False
    protect: float = 0.0
    spec: Annotated[QuantSpec, group("quantizer")] = QuantSpec()
    reference: Reference = None
    draws: int = 10_000
    json: Switch = False

    def run(self) -> None:
        """Evaluate and print."""
        from jaxprotect.evaluation.disparity import disparity
        from jaxprotect.evaluation.rates import language_rates
        from jaxprotect.runs.tables import print_damages, print_evaluation

        texts = self.measured.load(self.split)
        model = self.source.load_or_open(self.weights, COPIES[self.quantize])
        base = self._nats(model, texts)
        if not self.quantize:
            rows = language_rates(base, draws=self.draws)
            print_json(rows) if self.json else print_evaluation(rows)
            return
        quantized = self._nats(model, texts, self.spec)
        result = disparity(base, quantized, reference=self.reference, draws=self.draws)
        if self.json:
            print_json({"summary": result.summary(), "languages": result.rows()})
        else:
            print_damages(result, f"{self.spec.label}, {100 * self.protect:g} % protected")

    def _nats(self, model: Any, texts: Any, spec: QuantSpec | None = None) -> Any:
        """Nats of every sentence, with the weights as they are or quantized."""
        from jaxprotect.evaluation.evaluate import evaluate
        from jaxprotect.evaluation.streamed import evaluate_streamed
        from jaxprotect.models.stored_model import StoredModel
        from jaxprotect.quantization.quantize import quantize
        from jaxprotect.selection import masks

        options: dict[str, Any] = {
            "start": self.start,
            "masking": self.masking,
            "batch_tokens": self.measured.batch_tokens,
        }
        if isinstance(model, StoredModel):
            mask = spec and masks.magnitude_cut(
                model, fraction=self.protect, eligible=spec.eligible
            )
            return evaluate_streamed(model, texts, spec=spec, mask=mask, **options)
        if spec is None:
            return evaluate(model, texts, **options)
        mask = masks.by_magnitude(model.params, fraction=self.protect, eligible=spec.eligible)
        return evaluate(model, texts, quantize(model.params, mask, spec, model.config), **options)
