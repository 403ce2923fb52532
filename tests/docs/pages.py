"""The written pages of the project, and what they show: Python, commands, names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    )
    if "generated" not in path.parts
)


def text_of(page: str) -> str:
    """A page as it is written."""
    return (ROOT / page).read_text("utf-8")


def blocks_of(page: str, *kinds: str) -> list[str]:
    """The code blocks of some kinds."""
    return [block for kind, block in FENCE.findall(text_of(page)) if kind in kinds]


def commands_of(page: str) -> list[str]:
    """Command lines of the project: in shell blocks, and in running text."""
    shell = "\n".join(blocks_of(page, "shell", "bash", "sh")).replace("\\\n", " ")
    lines = [*shell.splitlines(), *INLINE.findall(FENCE.sub("", text_of(page)))]
    known = ("jaxprotect ", "python -m experiments.")
    return [line for line in map(str.strip, lines) if line.startswith(known)]
