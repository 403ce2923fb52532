"""Find a minimal set in a folder: every size tried is kept, and a killed search goes on."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxprotect.errors import unknown_name
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.quantization.packed_params import check_dense
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import (
    collect_statistics,
    describe,
    gather,
    make_evaluator,
    relative_damages,
)
from jaxprotect.runs.mask_files import load_mask, save_mask
from jaxprotect.runs.minimal_result import MinimalSet, Question, Tuning, conclude
from jaxprotect.runs.results import (
    Run,
    append_variant,
    open_run,
    to_json,
    write_atomically,
    write_csv,
)
from jaxprotect.runs.sweep import Variant, measure, measure_original
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import CRITERIA, GUIDED, select
from jaxprotect.selection.minimal import point_name, search_minimal
from jaxprotect.selection.search import Search
from jaxprotect.selection.targets import Target, Verdict, check_target, demands_of


def find_minimal_set(
    model: Model,
    texts: dict[str, Texts],
    spec: QuantSpec,
    target: Target,
    *,
    out: Path,
    search: Search | None = None,
    reference: Sequence[str] | None = None,
    statistics: Path | None = None,
    batch_tokens: int = 4096,
) -> MinimalSet:
    """The smallest set of weights that meets a target in every language, with confidence.

    Scores come from the select sentences; sizes are tried on tune, where the upper bound over all
    languages at once decides; the set found is then measured once on test.

    Args:
        model: the unquantized model.
        texts: `select`, `tune` and `test` sentences.
        spec: the quantizer.
        target: what is enough.
        out: folder of the search; continued if it holds the same one.
        search: criterion and precision.
        reference: reference languages.
        statistics: folder of the statistics, to share between searches; in `out` by default.
        batch_tokens: most tokens of one batch; another one may continue a search.

    Returns:
        The set, its curve and its damages; `summary.json`, `curve.csv`, `damages.csv`,
        `location.csv` and `mask.npz` lie in `out`.

    Raises:
        InputError: texts, options or statistics that do not fit, another search in `out`, or
            another process that writes to it.
    """
    check_dense("model", model.params)
    search = Search() if search is None else search
    if search.criterion not in CRITERIA:
        raise unknown_name("criterion", search.criterion, CRITERIA)
    question = Question(
        model=model,
        texts=texts,
        spec=spec,
        target=target,
        search=search,
        reference=reference,
        batch_tokens=batch_tokens,
    )
    store = collect_statistics(
        statistics or out / "statistics", model, texts["select"], batch_tokens=batch_tokens
    )
    tune = encode(model, texts["tune"], batch_tokens=batch_tokens)
    with open_run(out / "tune", _manifest(question)) as run:
        base = measure_original(run, model, tune)
        nothing = Variant(
            name=point_name(0), intervention={"kind": "none"}, spec=spec, mask=masks.none
        )
        evaluate = make_evaluator(model, tune, remembered=search.rounds + 1)
        options: dict[str, Any] = {"reference": reference, "draws": search.draws}

        def measured(run: Run, variant: Variant) -> tuple[Run, Evaluation]:
            """A set's evaluation, from the run if it is there."""
            if variant.name in run.variants:
                return run, run.evaluation(variant.name)
            rows, evaluation = measure(variant, model, tune, base, evaluate=evaluate, **options)
            return append_variant(run, variant.name, evaluation, rows), evaluation

        run, unprotected = measured(run, nothing)
        evidence = gather(
            model,
            spec,
            store,
            evaluate,
            base,
            unprotected=relative_damages(base, unprotected),
            reference=reference,
        )
        tuning = Tuning(
            base=base,
            unprotected=unprotected,
            evidence=evidence,
            demands=demands_of(target, base, unprotected, reference=reference),
        )

        def judge(evaluation: Evaluation) -> Verdict:
            return check_target(
                target,
                base,
                unprotected,
                evaluation,
                reference=reference,
                draws=search.draws,
                level=search.level,
            )

        def set_of(count: int, pruned_from: int | None = None) -> Mask:
            """The set of a size, from the folder if it is there."""
            if count == 0:
                return masks.none(model.params)
            path = out / "tune" / "masks" / f"{point_name(count, pruned_from)}.npz"
            if path.exists():
                return load_mask(path, model)
            # Every size starts afresh, so that a search that was killed ends as if it had not been.
            mask, _ = select(
                search.criterion,
                evidence,
                count,
                demands=tuning.demands,
                rounds=search.rounds,
                within=None if pruned_from is None else set_of(pruned_from),
            )
            save_mask(path, mask, model)
            return mask

        def visit(count: int, pruned_from: int | None = None) -> Evaluation:
            nonlocal run
            variant = Variant(
                name=point_name(count, pruned_from),
                intervention={"kind": search.criterion, "count": count},
                spec=spec,
                mask=lambda params: set_of(count, pruned_from),
            )
            run, evaluation = measured(run, variant)
            return evaluation

        guided = search.criterion == GUIDED
        result = search_minimal(
            visit,
            judge,
            masks.eligible_count(model.params, spec.eligible),
            precision=search.precision,
            max_fraction=search.max_fraction,
            prune=(lambda found, count: visit(count, found)) if guided else None,
        )
        chosen = result.found or result.closest
        mask = set_of(chosen.count, chosen.pruned_from)
        made = conclude(question, tuning, result, run.rows, mask)
        write_csv(out / "curve.csv", made.curve)
        write_csv(out / "damages.csv", made.damages)
        if made.location:
            write_csv(out / "location.csv", made.location)
        write_atomically(out / "summary.json", to_json(made.summary, indent=1).encode())
        if made.mask is not None:
            save_mask(out / "mask.npz", made.mask, model)
    return made


def _manifest(question: Question) -> dict[str, Any]:
    model, texts, search = question.model, question.texts, question.search
    # The other criteria choose the same sets whatever the target, and may share a folder.
    guided = {"target": asdict(question.target)} if search.criterion == GUIDED else {}
    reference = question.reference
    return {
        "config": {
            "spec": asdict(question.spec),
            "search": {"criterion": search.criterion, "rounds": search.rounds} | guided,
            "reference": None if reference is None else list(reference),
            "draws": search.draws,
            "protocol": "sound",
        },
        "model": {
            "name": model.name,
            "revision": model.revision,
            "sha256": model.sha256,
            "architecture": asdict(model.config),
        },
        "texts": describe(texts["tune"]) | {"select_sha256": texts["select"].sha256},
        "experiments": {},
    }
