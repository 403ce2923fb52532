"""`generated/help.md`: what every command says to `--help`, so that no page repeats it."""

import contextlib
import io
import os
import pkgutil
from pathlib import Path
from typing import Any

WIDTH = "88"


def help_of(command: str) -> str | None:
    """What a command says to `--help`; None if the program does not know it."""
    from jaxprotect.cli import main

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(io.StringIO()):
        try:
            main([command, "--help"])
        except SystemExit as stopped:
            if stopped.code:
                return None
    lines = [line.rstrip() for line in shown.getvalue().strip().splitlines()]
    return "\n".join(lines)


def command_names() -> list[str]:
    """The commands, one module each in `jaxprotect/commands`."""
    import jaxprotect.commands

    modules = pkgutil.iter_modules(jaxprotect.commands.__path__)
    return [module.name.replace("_", "-") for module in modules]


def write_help(folder: Path) -> None:
    """Write the page, if it is not there as it should be."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    os.environ.setdefault("NO_COLOR", "1")
    shown = {command: help_of(command) for command in command_names()}
    if before is None:
        del os.environ["COLUMNS"]
    else:
        os.environ["COLUMNS"] = before
    parts = [f"### {name}\n\n```text\n{text}\n```\n" for name, text in shown.items() if text]
    if not parts:
        raise RuntimeError("no command of `jaxprotect` says what it does")
    page, path = "\n".join(parts), folder / "help.md"
    folder.mkdir(exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != page:
        path.write_text(page, "utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Write the page before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: write_help(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}
