"""Exp-015, language sensitivity: which criterion chooses best, and where does each language live?

    python -m experiments.exp_015 [--model gpt2 --texts DIR] [--bits 3] [--split-seeds 5]

Question: at equal cost in bytes, which way of choosing weights leaves the worst-off language best
off; what does equal damage cost; and do languages need weights of their own, where, and whom does
protecting them help? A budget is what the language-guided set of a share of the weights costs in
values and indices; every other criterion takes as many weights as fit in it. Scores come from the
select sentences, corrections from tune, every number from test; the whole is repeated on new random
splits of the sentences.
Hardware and runtime: reference model, shipped texts, 2 busy CPU cores: 4 to 10 minutes per split,
34 in all.
Expected: random and English-only choices help little; the language-guided choice leads at small
budgets; see the README.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.command_line import main
from experiments.common import Setup, load_model_of, manifest
from experiments.exp_015_page import write_answers
from experiments.language_sets import LanguageAnswers, language_questions
from experiments.split_summary import across_splits, print_across, variant_name
from experiments.splits import load_splits
from jaxprotect.errors import InputError, refuse_unknown
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.criteria_figures import criteria_curves
from jaxprotect.runs.evidence import (
    collect_statistics,
    gather,
    make_evaluator,
    relative_damages,
)
from jaxprotect.runs.report import write_report
from jaxprotect.runs.results import ORIGINAL, Run, open_run, write_csv
from jaxprotect.runs.summary import print_tables, write_summary
from jaxprotect.runs.sweep import Variant, sweep
from jaxprotect.selection import masks
from jaxprotect.selection.byte_budget import fill_bytes
from jaxprotect.selection.criteria import CRITERIA, GUIDED, Evidence, ranked, select

MaskOf = Callable[[dict], Mask]

OFF_THE_SCALE = ("taylor",)
"""Criteria that do so much harm that the others would be one line in a figure."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All criteria at equal bytes.

    Args:
        setup: model, texts, quantizer and output folder (its split is not used).
        criteria: which to compare.
        fractions: shares of the eligible weights whose cost, in the language-guided set, is the
            budget of all criteria.
        split_seeds: how many splits: 0 is the texts' own, the others deal the sentences anew.
        first_seed: the first of them.
        rounds: candidates per size of the language-guided choice.
        questions: also ask where each language's weights are and whom protecting them helps (on
            the first split).
    """

    setup: Setup = Setup(spec=QuantSpec(bits=3, protected_dtype="float16"))
    criteria: tuple[str, ...] = CRITERIA
    fractions: tuple[float, ...] = (0.002, 0.01, 0.05)
    split_seeds: int = 5
    first_seed: int = 0
    rounds: int = 3
    questions: bool = True

    def __post_init__(self) -> None:
        """Refuse criteria that do not exist and fractions that are none."""
        refuse_unknown("criteria", self.criteria, CRITERIA)
        if GUIDED not in self.criteria:
            raise InputError(f"`criteria` lacks {GUIDED}, whose sets are the budgets of the others")
        for fraction in self.fractions:
            masks.target_count(0, None, fraction)
        if self.split_seeds < 1:
            raise InputError(f"`split_seeds` is {self.split_seeds}; it must be at least 1")


def nothing(spec: QuantSpec) -> Variant:
    """Plain quantization."""
    return Variant(name="none", intervention={"kind": "none"}, spec=spec, mask=masks.none)


def _variant(criterion: str, fraction: float, evidence: Evidence, mask: MaskOf) -> Variant:
    return Variant(
        name=variant_name(criterion, fraction),
        intervention={"kind": "criterion", "criterion": criterion, "fraction": fraction},
        spec=evidence.spec,
        mask=mask,
    )


def guided_sets(config: Config, evidence: Evidence) -> list[Variant]:
    """The language-guided sets, whose costs are the budgets."""
    total = masks.eligible_count(evidence.params, evidence.spec.eligible)

    def mask(params: dict, fraction: float) -> Mask:
        count = masks.target_count(total, None, fraction)
        return select(GUIDED, evidence, count, rounds=config.rounds)[0]

    return [
        _variant(GUIDED, fraction, evidence, functools.partial(mask, fraction=fraction))
        for fraction in config.fractions
    ]


def sets_of_equal_cost(
    config: Config, evidence: Evidence, budgets: Mapping[float, int]
) -> list[Variant]:
    """The other criteria, each with as many weights as fit in the bytes of each budget."""
    total = masks.eligible_count(evidence.params, evidence.spec.eligible)

    def mask(params: dict, criterion: str, fraction: float) -> Mask:
        return fill_bytes(
            ranked(criterion, evidence),
            budgets[fraction],
            params,
            evidence.spec,
            start=masks.target_count(total, None, fraction),
            most=total,
        )

    return [
        _variant(
            name, fraction, evidence, functools.partial(mask, criterion=name, fraction=fraction)
        )
        for fraction in config.fractions
        for name in config.criteria
        if name != GUIDED
    ]


def run_split(
    config: Config, model: Model, seed: int, out: Path, *, questions: bool
) -> tuple[Run, LanguageAnswers | None]:
    """All criteria on one split of the sentences, in a run folder of its own.

    Args:
        config: the experiment.
        model: the unquantized model.
        seed: of the split.
        out: the folder.
        questions: also ask the questions about languages.

    Returns:
        The finished run, and the answers if they were asked for.
    """
    setup, spec = config.setup, config.setup.quantizer
    texts = load_splits(setup, seed)
    names = [variant_name(name, f) for f in config.fractions for name in config.criteria]
    described = manifest(setup, model, texts["test"], {"exp_015": ["none", *names]})
    described["texts"] |= {"select": texts["select"].sha256, "tune": texts["tune"].sha256}
    described["config"] |= {"rounds": config.rounds}
    store = collect_statistics(
        out / "statistics", model, texts["select"], batch_tokens=setup.batch_tokens
    )
    with open_run(out / "run", described) as run:
        tune = encode(model, texts["tune"], batch_tokens=setup.batch_tokens)
        base = evaluate_encoded(model.params, tune, model.config)
        evidence = gather(
            model, spec, store, make_evaluator(model, tune), base, reference=setup.reference
        )
        test = encode(model, texts["test"], batch_tokens=setup.batch_tokens)
        options: dict[str, Any] = {"reference": setup.reference, "draws": setup.draws}
        run = sweep(run, model, test, [nothing(spec), *guided_sets(config, evidence)], **options)
        costs = {row["variant"]: row["overhead_bytes"] for row in run.rows}
        budgets = {f: costs[variant_name(GUIDED, f)] for f in config.fractions}
        run = sweep(run, model, test, sets_of_equal_cost(config, evidence, budgets), **options)
        answers = None
        if questions:
            answers = language_questions(run, model, evidence, texts, test, options)
            run = answers.run
        write_report(run, write_summary(run))
    return run, answers


def run(config: Config) -> list[Run]:
    """Every split, the comparison across them, and on the first the questions about languages."""
    setup = config.setup
    out = setup.out or Path("runs") / "exp_015"
    model = load_model_of(setup)
    runs, answers = [], None
    for seed in range(config.first_seed, config.first_seed + config.split_seeds):
        first = seed == config.first_seed
        folder = out / f"split-{seed}"
        run, found = run_split(config, model, seed, folder, questions=config.questions and first)
        runs.append(run)
        if first:
            answers = found
            print_tables(run, write_summary(run))
    rows = across_splits(runs, config.criteria, config.fractions)
    write_csv(out / "criteria.csv", rows)
    plain = [max(_plain_damages(run).values()) for run in runs]
    curves = criteria_curves(
        out / "criteria.png",
        [row for row in rows if row["criterion"] not in OFF_THE_SCALE],
        unprotected=sum(plain) / len(plain),
        band=f"range over {len(runs)} splits",
    )
    print_across(rows, setup.quantizer.label, len(runs))
    page = write_answers(out / "report.html", runs, rows, curves, answers)
    print(f"report: {page}")
    return runs


def _plain_damages(run: Run) -> dict[str, float]:
    return relative_damages(run.evaluation(ORIGINAL), run.evaluation("none"))


if __name__ == "__main__":
    main(Config, run)
