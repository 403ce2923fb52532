"""Sixteen thresholds as one sweep, against quantizing and evaluating sixteen times."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.compilations import compilations
from benchmarks.rows import Row, at_most, bounded
from benchmarks.shapes import Options
from benchmarks.timing import interleaved
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.texts import load_texts
from jaxprotect.models.hub import load_model
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import describe
from jaxprotect.runs.results import open_run
from jaxprotect.runs.sweep import Variant, measure_original, sweep
from jaxprotect.selection import masks

SPEC = QuantSpec()


def run(options: Options) -> list[Row]:
    """The shipped model and texts; the sweep's time holds masks, intervals and files."""
    model = load_model("reference")
    texts = load_texts("reference", split="test")
    if options.small:
        texts = texts.take(range(2))
    encoded = encode(model, texts)
    fractions = np.linspace(0.005, 0.08, 2 if options.small else 16)
    variants = [
        Variant(
            name=f"{share:.4f}",
            intervention={"fraction": float(share)},
            spec=SPEC,
            mask=lambda params, share=share: masks.by_magnitude(params, fraction=float(share)),
        )
        for share in fractions
    ]

    def as_sweep() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            described = {
                "config": {},
                "model": {"architecture": asdict(model.config)},
                "texts": describe(texts),
                "experiments": {},
            }
            with open_run(Path(folder) / "run", described) as opened:
                measure_original(opened, model, encoded)
                return sweep(opened, model, encoded, variants, draws=2000).rows

    made = [variant.mask(model.params) for variant in variants]

    def by_hand() -> Any:
        evaluate_encoded(model.params, encoded, model.config)
        return [
            evaluate_encoded(
                quantize_tree(model.params, mask, SPEC, model.config), encoded, model.config
            )
            for mask in made
        ]

    jax.clear_caches()
    with compilations("quantize") as quantizers, compilations("sentence_nats") as losses:
        as_sweep()
    shapes = len({batch.tokens.shape for batch in encoded.batches})
    timed = interleaved({"sweep": as_sweep, "by hand": by_hand}, repeats=options.repeats)
    name = f"sweep of {len(fractions)} thresholds"
    overhead, low, high = timed.ratio("sweep", "by hand")
    words, met = at_most(1.05, overhead, "x")
    rows = [
        Row(
            benchmark=name,
            against="quantize + evaluate, as often",
            value=overhead,
            unit="x",
            low=low,
            high=high,
            goal=words,
            met=met,
        )
    ]
    compiled = f"{name}: compilations of the"
    rows.append(bounded(f"{compiled} quantizer", "", quantizers.count, "", 1))
    rows.append(bounded(f"{compiled} loss", f"{shapes} batch shapes", losses.count, "", shapes))
    return rows
