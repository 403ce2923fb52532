"""A recommendation on the terminal."""

from jaxprotect.runs.recommend import Recommendation
from jaxprotect.runs.tables import console, interval, table


def print_recommendation(made: Recommendation, folder: str | None) -> None:
    """Print what to do, what each language loses by it, and what else was tried.

    Args:
        made: the recommendation.
        folder: where the model was packed; None if it was not.
    """
    found = made.summary
    others = table(
        f"Tried within {found['budget']:,} bytes, the worst language on tune",
        ["technique", "quantizer"],
        ["bytes", "worst damage, %"],
    )
    for row in made.tried:
        others.add_row(
            str(row["technique"]).replace("_", " "),
            str(row["quantizer"]),
            f"{row['bytes']:,}",
            f"{100 * float(row['tune_worst_relative'] or 0):.2f}",
        )
    console().print(others)
    languages = table(
        "Recommended: expected damage by language, on test",
        ["language"],
        ["damage, % of nats", "nats/sentence"],
    )
    for row in sorted(made.damages, key=lambda row: -float(row["relative"] or 0)):
        languages.add_row(
            str(row["language"]), interval(row, "relative", 100), interval(row, "damage")
        )
    console().print(languages)
    technique = str(found["technique"]).replace("_", " ")
    lines = [
        f"recommended: {technique}, {found['quantizer']}; {found['bytes']:,} bytes",
        f"{made.kept}",
        f"worst language {found['worst_language']}: {interval(found, 'worst_relative', 100)} %; "
        f"against plain bits {interval(found, 'change', 100)} points; "
        f"disparity {interval(found, 'ratio')}",
    ]
    lines += [] if folder is None else [f"packed: {folder}"]
    for line in lines:
        console().print(line, highlight=False, markup=False, soft_wrap=True)
