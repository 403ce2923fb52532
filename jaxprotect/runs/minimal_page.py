"""The page of a search for a minimal set: the answer first, then what it rests on."""

from pathlib import Path

from jaxprotect.runs.language_tables import heat_table
from jaxprotect.runs.minimal_folder import MinimalFolder
from jaxprotect.runs.minimal_words import answer, set_words, target_words
from jaxprotect.runs.pages import Section, write_study
from jaxprotect.runs.provenance import pairs, provenance
from jaxprotect.runs.report_tables import Cell, Table, worst_cell
from jaxprotect.runs.results import write_atomically
from jaxprotect.runs.search_figures import language_losses, size_curve
from jaxprotect.runs.wording import cell, number, of_weights, part_name, percent, relative_cell


def write_minimal_page(search: MinimalFolder) -> Path:
    """Write the search's figures and its report.html.

    Args:
        search: a finished search.

    Returns:
        The page, in the search's folder; the same search gives the same bytes.
    """
    losses = language_losses(search.damages, search.names, search.level)
    drawings = {of.name: of for of in (size_curve(search), losses)}
    for name, drawing in drawings.items():
        write_atomically(search.folder / "figures" / f"{name}.png", drawing.png)
    summary, model = search.summary, search.run.manifest["model"]["name"]
    lead = (
        f"{summary['quantizer']}; target: {target_words(search)}, in every language. Weights were "
        "ranked on the select sentences, sizes tried on tune, and the set measured once on test."
    )
    sections = [
        Section(
            title="The answer",
            text=(),
            findings=tuple(answer(search)),
            drawings=(drawings["languages"],),
            tables=(_languages(search),),
        ),
        Section(
            title="How much does each size help?",
            text=("All of it on tune, where the size was chosen; the answer above is from test.",),
            drawings=(drawings["sizes"],),
            tables=(_sizes(search), heat_table(search.group, "heat")),
        ),
    ]
    if search.location:
        sections.append(
            Section(
                title="Where in the model are the protected weights?",
                text=(_where(search),),
                tables=(_places(search),),
            )
        )
    sections.append(Section(title="Provenance", text=(), facts=tuple(_facts(search))))
    title = f"The least that must be protected: {model}"
    return write_study(
        search.folder / "report.html", title=title, lead=lead, sections=tuple(sections)
    )


def _languages(search: MinimalFolder) -> Table:
    ordered = sorted(search.damages, key=lambda row: -row["relative"])
    rows = []
    for row in ordered:
        code, upper = row["language"], row["relative_upper"]
        name = search.names[code]
        finer = ("bits_per_byte_original", "bits_per_byte_quantized")
        rows.append(
            (
                Cell(text=name, sort=name, note=code if code != name else ""),
                Cell(text=relative_cell(row, "unprotected"), sort=row["unprotected"]),
                Cell(text=relative_cell(row, "relative"), sort=row["relative"]),
                Cell(text=cell(row, "removed", scale=100), sort=row["removed"]),
                Cell(text="–" if upper is None else percent(upper), sort=upper),
                Cell(text=cell(row, "damage"), sort=row["damage"]),
                *(Cell(text=number(row[key], 3), sort=row[key]) for key in finer),
                Cell(text="yes" if row["destroyed"] else "no", sort=float(row["destroyed"])),
            )
        )
    words = set_words(search)
    return Table(
        name="languages",
        caption=(
            f"What each language loses on test, unprotected and {words}: nats added, relative to "
            "the original model's. Removed: paired, in percentage points. In brackets "
            f"{search.level} intervals of each language alone."
        ),
        columns=(
            "Language",
            "Unprotected",
            words.capitalize(),
            "Removed, points",
            "At most, all languages at once",
            "Nats per sentence then",
            "Original, bits per byte",
            "Quantized, bits per byte",
            "Worse than guessing",
        ),
        rows=tuple(rows),
        filter="Filter languages",
        languages=tuple(row["language"] for row in ordered),
    )


def _sizes(search: MinimalFolder) -> Table:
    group = search.group
    rows = []
    for variant, of in zip(search.variants, search.curve, strict=True):
        row, pruned = group.rows[variant], of["pruned_from"]
        excess, tightest = of["upper_excess"], search.names[of["tightest_language"]]
        rows.append(
            (
                Cell(
                    text=f"{of['protected']:,}",
                    sort=of["protected"],
                    note="" if pruned is None else f"pruned from {pruned:,}",
                ),
                Cell(text=of_weights(of["fraction"]), sort=of["fraction"]),
                Cell(text=f"{of['overhead_bytes'] / 1024:,.1f}", sort=of["overhead_bytes"]),
                worst_cell(group, row),
                Cell(text=cell(row, "worst_damage"), sort=row["worst_damage"]),
                Cell(text=number(100 * excess), sort=excess, note=tightest),
                Cell(text="yes" if of["met"] else "no", sort=float(of["met"])),
            )
        )
    return Table(
        name="sizes",
        caption=(
            "Every set that was tried, on tune. Above the target: the upper bound of what the "
            "language nearest to its limit lacks, in percent of the original nats; with a minus, "
            f"the target is met with that much room. In brackets {group.level} intervals that hold "
            "whichever language truly is the worst."
        ),
        columns=(
            "Weights protected",
            "Of the eligible",
            "KiB more",
            "Worst relative damage",
            "Worst damage, nats per sentence",
            "Above the target, points",
            "Target met",
        ),
        rows=tuple(rows),
    )


def _where(search: MinimalFolder) -> str:
    top = max(search.location, key=lambda row: row["lift"])
    part = part_name(top["component"], top["layer"])
    return (
        f"Most above its size: {part}, with {of_weights(top['share'])} of the set and "
        f"{number(top['lift'], 2)} times what a random set of this size has there."
    )


def _places(search: MinimalFolder) -> Table:
    rows = [
        (
            Cell(text=name, sort=name),
            Cell(text=f"{row['protected']:,}", sort=row["protected"]),
            Cell(text=of_weights(row["share"]), sort=row["share"]),
            Cell(
                text=of_weights(row["protected"] / row["eligible"]),
                sort=row["protected"] / row["eligible"],
            ),
            Cell(text=number(row["lift"], 2), sort=row["lift"]),
        )
        for row in search.location
        for name in [part_name(row["component"], row["layer"])]
    ]
    return Table(
        name="places",
        caption="Where the set lies. Times a random set: its share of the set over its share of "
        "the eligible weights; above 1, more than its size.",
        columns=("Part", "Protected", "Of the set", "Of the part", "Times a random set"),
        rows=tuple(rows),
    )


def _facts(search: MinimalFolder) -> list[tuple[str, str]]:
    config, summary = search.run.manifest["config"], search.summary
    facts = [
        ("Target", target_words(search)),
        ("Criterion", summary["criterion"]),
        ("Confidence", f"{search.level}, {summary['test_draws']:,} draws"),
    ]
    if isinstance(config.get("spec"), dict):
        facts.append(("Quantizer", pairs(config["spec"])))
    of_run = dict(provenance(search.run))
    return [*facts, *((f"{k}, tune" if k == "Sentences" else k, v) for k, v in of_run.items())]
