"""The written pages of the project, and what they show: Python, commands, names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LAUNCHER = re.compile(r'^.*(?:\.sh|\.sbatch|--command ") *(?=jaxprotect |python -m )')
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
KNOWN = ("jaxprotect ", "python -m experiments.")

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
        ROOT / "experiments/jobs/README.md",
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
    lines = [*shell_lines("\n".join(blocks_of(page, "shell", "bash", "sh")))]
    lines += INLINE.findall(FENCE.sub("", text_of(page)))
    return [line for line in map(str.strip, lines) if line.startswith(KNOWN)]


def shell_lines(shell: str) -> list[str]:
    """Lines of a shell, with those that go on as one, and without what launches a job."""
    lines = shell.replace("\\\n", " ").splitlines()
    return [LAUNCHER.sub("", line).rstrip('"') if LAUNCHER.match(line) else line for line in lines]


def job_commands() -> list[str]:
    """Command lines of `experiments/jobs`, as they run there."""
    jobs = ROOT / "experiments" / "jobs"
    found = []
    for script in sorted([*jobs.glob("*.sh"), *jobs.glob("*.sbatch")]):
        head = re.sub(r"^# ?", "", script.read_text("utf-8"), flags=re.MULTILINE)
        given = [line for line in shell_lines(head) if line.startswith(KNOWN)]
        found += [f"{line} --coordinator auto" for line in given]
    lines = (jobs / "commands.txt").read_text("utf-8").splitlines()
    return [*found, *(line.replace("${OUT:?}", "gs://bucket/study") for line in lines)]
