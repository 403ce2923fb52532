"""Exp-015's report: the brief's questions one by one, each with its answer, figure and table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.language_sets import LanguageAnswers
from jaxprotect.runs.criteria_figures import criterion_name
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.pages import Section, plain_table, write_study
from jaxprotect.runs.report_tables import Table
from jaxprotect.runs.results import Run
from jaxprotect.runs.wording import counted
from jaxprotect.selection.criteria import GUIDED
from jaxprotect.selection.scores import CRITERIA as BLIND


def write_answers(
    path: Path,
    runs: Sequence[Run],
    rows: Sequence[dict[str, Any]],
    curves: Drawing,
    answers: LanguageAnswers | None,
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        runs: one per split.
        rows: of `across_splits`.
        curves: damage by criterion and budget.
        answers: about the languages' own weights, where they were asked.

    Returns:
        `path`.
    """
    manifest = runs[0].manifest
    texts, quantizer = manifest["texts"], runs[0].rows[0]["quantizer"]
    lead = (
        f"{manifest['model']['name']}, {quantizer}, {len(texts['languages'])} languages; scores "
        f"from the select sentences, corrections from tune, damages on {len(texts['ids'])} test "
        f"sentences that neither saw; {counted(len(runs), 'split')} of the sentences."
    )
    sections = [_criteria(rows, curves, len(runs))]
    if answers is not None:
        sections += _languages(answers)
    title = "Which weights does each language need, and which choice serves them all?"
    return write_study(path, title=title, lead=lead, sections=sections)


def _criteria(rows: Sequence[dict[str, Any]], curves: Drawing, splits: int) -> Section:
    """Who is best at equal bytes, and what equal damage costs."""
    text = []
    for fraction in sorted({row["fraction"] for row in rows}):
        of_size = [row for row in rows if row["fraction"] == fraction]
        guided = next(row for row in of_size if row["criterion"] == GUIDED)
        blind = [row for row in of_size if row["criterion"] in BLIND]
        said = (
            f"With the bytes of {100 * fraction:g} % of the weights "
            f"({guided['overhead_bytes'] / 1024:.1f} KiB) the language-guided choice leaves the "
            f"worst language {100 * guided['worst_relative']:.2f} % of damage, "
            f"{100 * guided['removed']:.0f} % less than plain quantization"
        )
        if blind:
            best = min(blind, key=lambda row: row["worst_relative"])
            said += (
                f". The best of the criteria that do not tell languages apart, "
                f"{criterion_name(best['criterion'])}, leaves {100 * best['worst_relative']:.2f} "
                f"%; the guided choice is better in {best['guided_better']} of {splits} splits, "
                f"with a paired 95 % interval on its side in {best['guided_surely_better']}"
            )
            said += (
                f". For the same damage that criterion needs {best['equal_damage']:.1f} times the "
                "bytes."
                if best["equal_damage"] is not None
                else ". No size tried of that criterion reaches the same damage."
            )
        text.append(said if said.endswith(".") else said + ".")
    return Section(
        title="Which choice leaves the worst-off language best off, at equal cost?",
        text=tuple(text),
        drawings=(curves,),
        tables=(_across_table(rows, splits),),
    )


def _across_table(rows: Sequence[dict[str, Any]], splits: int) -> Table:
    cells = [
        {
            "Criterion": criterion_name(row["criterion"]),
            "Budget, KiB": (f"{row['overhead_bytes'] / 1024:.1f}", row["overhead_bytes"]),
            "Weights": (f"{row['protected']:,.0f}", row["protected"]),
            "Worst damage, %": (f"{100 * row['worst_relative']:.2f}", row["worst_relative"]),
            "Range over splits, %": (
                f"{100 * row['worst_relative_low']:.2f} to {100 * row['worst_relative_high']:.2f}",
                row["worst_relative_low"],
            ),
            "Guided better in": _wins(row),
            "Bytes for guided's damage": _times(row),
        }
        for row in sorted(rows, key=lambda row: (row["fraction"], row["worst_relative"]))
    ]
    caption = (
        f"Every criterion with as many weights as fit in the bytes of the guided set; means over "
        f"{counted(splits, 'split')}. Surely: the paired 95 % interval of the difference lies on "
        "the guided side."
    )
    return plain_table("criteria", caption, cells)


def _wins(row: dict[str, Any]) -> tuple[str, float | None]:
    if row["guided_better"] is None:
        return "", None
    return f"{row['guided_better']}, surely {row['guided_surely_better']}", row["guided_better"]


def _times(row: dict[str, Any]) -> tuple[str, float | None]:
    if row["guided_better"] is None:
        return "", None
    if row["equal_damage"] is None:
        return "more than tried", None
    return f"{row['equal_damage']:.2f} times", row["equal_damage"]


def _languages(answers: LanguageAnswers) -> list[Section]:
    said = {row["claim"]: row for row in answers.claims}

    def answer(start: str) -> str:
        row = next(row for claim, row in said.items() if claim.startswith(start))
        verdict = {"yes": "Yes", "no": "No", "open": "Open"}[row["holds"]]
        return f"{verdict} ({row['claim']}): {row['measured']}."

    claims = [
        {"Claim": row["claim"], "Holds": row["holds"], "Measured": row["measured"]}
        for row in answers.claims
    ]
    return [
        Section(title="Is 5 % the least that helps?", text=(answer("5 %"),)),
        Section(
            title="Is it where a weight is, or how large it is?", text=(answer("where a weight"),)
        ),
        Section(
            title="Do languages have weights of their own?",
            text=(
                answer("there are language-specific"),
                answer("sensitive weights encode the script"),
                answer("sensitive weights encode the language family"),
            ),
            drawings=(answers.overlap,),
        ),
        Section(
            title="Where are each language's weights?",
            text=(answers.location.alt,),
            drawings=(answers.location,),
        ),
        Section(
            title="Whom does protecting one language's weights help?",
            text=(answer("protecting a language"),),
            drawings=(answers.cross_language,),
        ),
        Section(
            title="The brief's claims, one by one",
            text=("Each claim beside a measurement, on the first split.",),
            tables=(plain_table("claims", "Claims and measurements.", claims),),
        ),
    ]
