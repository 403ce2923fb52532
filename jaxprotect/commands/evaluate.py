"""`jaxprotect evaluate`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxprotect.commands.options import Flat, Split, print_json
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model in every language; with --quantize, what quantization costs each.

    Args:
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to measure; all by default.
        split: sentences to measure on.
        start: `prefix` scores every token after a start token; `shift` is the seed protocol's,
            for causal models.
        masking: what a masked model does not see of a sentence when it scores a token: the `token`
            alone, or also the rest of its `word`.
        quantize: also quantize, and report the damage.
        protect: share of the eligible weights to keep, largest |w| first (with --quantize).
        spec: the quantizer (with --quantize).
        reference: languages whose mean relative damage the disparity divides by.
        draws: bootstrap draws.
        batch_tokens: most tokens of one batch.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    split: Split = "test"
    start: Literal["prefix", "shift"] = "prefix"
    masking: Literal["token", "word"] = "token"
    quantize: bool = False
    protect: float = 0.0
    spec: Annotated[QuantSpec, Flat] = QuantSpec()
    reference: tuple[str, ...] | None = None
    draws: int = 10_000
    batch_tokens: int = 4096
    json: bool = False

    def run(self) -> None:
        """Evaluate and print."""
        from jaxprotect.evaluation.disparity import disparity
        from jaxprotect.evaluation.evaluate import evaluate
        from jaxprotect.evaluation.rates import language_rates
        from jaxprotect.evaluation.texts import load_texts
        from jaxprotect.quantization.quantize import quantize
        from jaxprotect.runs.packed_loading import load_model
        from jaxprotect.runs.tables import print_damages, print_evaluation
        from jaxprotect.selection import masks

        split = None if self.split == "all" else self.split
        texts = load_texts(self.texts, languages=self.languages, split=split)
        model = load_model(self.model, revision=self.revision)
        options: dict[str, Any] = {
            "start": self.start,
            "masking": self.masking,
            "batch_tokens": self.batch_tokens,
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
