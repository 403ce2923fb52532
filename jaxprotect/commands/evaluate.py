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
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure every language; with --quantize, what quantization costs.

    Examples:
        jaxprotect evaluate --languages eng_Latn tam_Taml
        jaxprotect evaluate --quantize --bits 3 --protect 0.01
        jaxprotect evaluate --model gpt2 --texts flores --quantize --json

    Args:
        source: where the model comes from.
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
        from jaxprotect.evaluation.evaluate import evaluate
        from jaxprotect.evaluation.rates import language_rates
        from jaxprotect.quantization.quantize import quantize
        from jaxprotect.runs.tables import print_damages, print_evaluation
        from jaxprotect.selection import masks

        texts, model = self.measured.load(self.split), self.source.load()
        options: dict[str, Any] = {
            "start": self.start,
            "masking": self.masking,
            "batch_tokens": self.measured.batch_tokens,
        }
        base = evaluate(model, texts, **options)
        if not self.quantize:
            rows = language_rates(base, draws=self.draws)
            print_json(rows) if self.json else print_evaluation(rows)
            return
        mask = masks.by_magnitude(model.params, fraction=self.protect, eligible=self.spec.eligible)
        params = quantize(model.params, mask, self.spec, model.config)
        quantized = evaluate(model, texts, params, **options)
        result = disparity(base, quantized, reference=self.reference, draws=self.draws)
        if self.json:
            print_json({"summary": result.summary(), "languages": result.rows()})
        else:
            print_damages(result, f"{self.spec.label}, {100 * self.protect:g} % protected")
