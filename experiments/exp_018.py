"""Exp-018, calibration: do better ranges and error compensation help every language, at no cost?

    python -m experiments.exp_018 [--quantizers int3-channel] [--protect 0.01] [--matrix]

Question: at equal bytes, which ranges (absmax, percentile, least squared error, analytic, weighted
by activations or Fisher information, learned) leave the worst-off language best off, what does
GPTQ's error compensation add, and does it matter on which language one calibrates? Everything is
fitted on the select sentences and read on test. The matrix: each calibration on one language alone,
read on all the others, beside all languages alike and the multipliers of the minimax choice.
Hardware and runtime: reference model, shipped texts, 2 CPU cores: statistics 1 to 2 minutes; then
10 to 25 s of one core per calibration (80 by default), learned ranges 1 to 2 minutes each.
Expected: see the README; ranges that clip matter most at 3 bits, error compensation on top of them
more than what weighs the errors, and the language's multipliers little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.calibrations import METHODS, Calibrated, Material, fit
from experiments.command_line import main
from experiments.common import Setup, load_model_of, manifest
from experiments.exp_009 import QUANTIZERS
from experiments.exp_018_page import write_calibrations
from experiments.exp_018_tables import language_matrix, method_rows, print_matrix, print_methods
from experiments.splits import load_splits
from jaxprotect.errors import refuse_unknown
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.models.config import require_causal
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.runs.calibration_figures import calibration_dots, calibration_map
from jaxprotect.runs.evidence import collect_statistics
from jaxprotect.runs.results import Run, append_variant, open_run, write_csv
from jaxprotect.runs.summary import write_summary
from jaxprotect.runs.sweep import Variant, measure, measure_original
from jaxprotect.selection import masks

SELECT_TOKENS = 2048
"""Tokens of a batch of the select sentences: one step of learned ranges."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Calibrations of several quantizers.

    Args:
        setup: model, texts and output folder (its quantizer and split are not used).
        quantizers: of those of Exp-009.
        methods: of `experiments.calibrations`; absmax is always measured.
        matrix: the quantizers that are also calibrated on one language at a time.
        matrix_methods: how.
        protect: share of the weights that the guided choice protects, 0 for none.
        steps: of learned ranges.
    """

    setup: Setup = Setup()
    quantizers: tuple[str, ...] = ("int4-channel", "int3-channel", "int3-group64", "int4-tensor")
    methods: tuple[str, ...] = tuple(METHODS)
    matrix: tuple[str, ...] = ("int3-channel",)
    matrix_methods: tuple[str, ...] = ("activation_mse", "gptq_mse")
    protect: float = 0.0
    steps: int = 60

    def __post_init__(self) -> None:
        """Refuse quantizers and methods that do not exist, and a share that is none."""
        reading = tuple(name for name, method in METHODS.items() if method.reads_text)
        for option, given, allowed in (
            ("quantizers", self.quantizers, tuple(QUANTIZERS)),
            ("methods", self.methods, tuple(METHODS)),
            ("matrix", self.matrix, self.quantizers),
            ("matrix_methods", self.matrix_methods, reading),
        ):
            refuse_unknown(option, given, allowed)
        masks.target_count(0, None, self.protect)


Plan = dict[str, tuple[str, str, Mapping[str, float] | None]]
"""Variant -> quantizer, method, and which languages count if the method does not say."""


def plan(config: Config, languages: tuple[str, ...]) -> Plan:
    """Every calibration; learned ranges take longest and come last."""
    methods = dict.fromkeys(("absmax", *config.methods))
    quick = [m for m in methods if METHODS[m].ranges != "learned"]
    variants: Plan = {f"{q}--{m}": (q, m, None) for q in config.quantizers for m in quick}
    for q in config.matrix:
        for m in config.matrix_methods:
            variants[f"{q}--{m}"] = (q, m, None)
            variants |= {f"{q}--{m}--{one}": (q, m, {one: 1.0}) for one in languages}
    slow = [m for m in methods if m not in quick]
    return variants | {f"{q}--{m}": (q, m, None) for q in config.quantizers for m in slow}


def run(config: Config) -> Run:
    """Fit on select, measure on test, compare; resumes where it stopped."""
    setup = config.setup
    out = setup.out or Path("runs") / "exp_018"
    model, texts = load_model_of(setup), load_splits(setup)
    if any(METHODS[name].compensated for name in (*config.methods, *config.matrix_methods)):
        require_causal(model.config, "error compensation, of the methods that begin with gptq,")
    select = encode(model, texts["select"], batch_tokens=SELECT_TOKENS)
    test = encode(model, texts["test"], batch_tokens=setup.batch_tokens)
    store = collect_statistics(
        out / "statistics", model, texts["select"], batch_tokens=setup.batch_tokens
    )
    material = {
        name: Material(
            model=model,
            # Two bytes for what is not quantized: what a file would hold.
            spec=replace(QUANTIZERS[name], protected_dtype="float16"),
            store=store,
            select=select,
            protect=config.protect,
            steps=config.steps,
        )
        for name in config.quantizers
    }
    todo = plan(config, texts["select"].languages)
    described = manifest(setup, model, texts["test"], {"exp_018": list(todo)})
    described["texts"] |= {"select": texts["select"].sha256}
    described["config"] |= {"protect": config.protect, "steps": config.steps}
    with open_run(out / "run", described) as run:
        base = measure_original(run, model, test)
        for name, (quantizer, method, multipliers) in todo.items():
            if name in run.variants:
                continue
            calibrated = fit(METHODS[method], material[quantizer], multipliers)
            about = {
                "kind": "calibration",
                "quantizer": quantizer,
                "method": method,
                "languages": None if multipliers is None else list(multipliers),
                "changed": calibrated.changed,
            }
            rows, evaluation = _measure(name, about, calibrated, model, test, base, setup)
            run = append_variant(run, name, evaluation, rows)
        _conclude(config, run, model, out)
    return run


def _measure(
    name: str,
    about: dict[str, Any],
    calibrated: Calibrated,
    model: Model,
    test: Encoded,
    base: Evaluation,
    setup: Setup,
) -> tuple[list[dict[str, Any]], Evaluation]:
    quantized = quantize_tree(
        calibrated.params, calibrated.mask, calibrated.spec, model.config, grids=calibrated.grids
    )
    evaluation = evaluate_encoded(quantized, test, model.config)
    variant = Variant(
        name=name,
        intervention=about,
        spec=calibrated.spec,
        mask=lambda params: calibrated.mask,
    )
    return measure(
        variant,
        model,
        test,
        base,
        reference=setup.reference,
        draws=setup.draws,
        evaluate=lambda mask, spec: evaluation,
    )


def _conclude(config: Config, run: Run, model: Model, out: Path) -> None:
    """Tables, figures and the page."""
    write_summary(run)
    rows = method_rows(run, config.quantizers, config.methods, draws=config.setup.draws)
    write_csv(out / "methods.csv", rows)
    dots = calibration_dots(out / "methods.png", rows)
    maps, cells = [], []
    for quantizer in config.matrix:
        for method in config.matrix_methods:
            of_map = language_matrix(run, quantizer, method, draws=config.setup.draws)
            cells += of_map
            path = out / f"languages_{quantizer}_{method}.png"
            label = f"{METHODS[method].name}, {quantizer}"
            maps.append(calibration_map(path, of_map, label=label))
    print_methods(rows)
    if cells:
        write_csv(out / "languages.csv", cells)
        print_matrix(cells)
    page = write_calibrations(
        out / "report.html", model.name, config.protect, rows, cells, dots, maps
    )
    print(f"report: {page}")


if __name__ == "__main__":
    main(Config, run)
