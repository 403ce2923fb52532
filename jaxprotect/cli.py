"""The command line, `jaxprotect <command>`: options in, functions called.

Heavy imports happen inside the commands, so that `--help` is quick.
"""

import importlib.metadata
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from jaxprotect.commands.census import Census
from jaxprotect.commands.evaluate import Evaluate
from jaxprotect.commands.export import Export
from jaxprotect.commands.minimal_set import MinimalSet
from jaxprotect.commands.pack import Pack
from jaxprotect.commands.parsing import parse
from jaxprotect.commands.plan import Plan
from jaxprotect.commands.recommend import Recommend
from jaxprotect.commands.report import Report
from jaxprotect.commands.sensitivity import Sensitivity
from jaxprotect.commands.universe import Universe
from jaxprotect.compile_cache import keep_compiled
from jaxprotect.endings import BAD_INPUT, end_in_one_line
from jaxprotect.errors import InputError, did_you_mean
from jaxprotect.host_start import Hosts, joined

GROUPS: dict[str, dict[str, type]] = {
    "look": {
        "census": Census,
        "universe": Universe,
        "evaluate": Evaluate,
        "sensitivity": Sensitivity,
        "plan": Plan,
    },
    "choose": {"minimal-set": MinimalSet, "recommend": Recommend},
    "write": {"pack": Pack, "export": Export, "report": Report},
}
"""Heading of the help -> command -> its options."""

COMMANDS = {name: options for group in GROUPS.values() for name, options in group.items()}

EXAMPLES = """\
  jaxprotect evaluate --quantize --bits 3      what 3 bits cost every language
  jaxprotect minimal-set --share 0.5 --bits 3  the fewest weights that halve it
  jaxprotect recommend --budget-bytes 1300000  the best model of that size"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `jaxprotect` command; `jaxprotect.endings` says how it may end."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end_in_one_line(lambda: _run(words))


def _run(words: list[str]) -> None:
    if not words:  # a script that lost its words is not to succeed
        sys.stderr.write(f"{help_text()}\n")
        sys.exit(BAD_INPUT)
    name, *rest = words
    if name in ("-h", "--help"):
        print(help_text())
        return
    if name == "--version":
        print(f"jaxprotect {importlib.metadata.version('jaxprotect')}")
        return
    if name not in COMMANDS:
        meant = did_you_mean(name, COMMANDS)
        raise InputError(f"`{name}` is no command; allowed are {', '.join(COMMANDS)}{meant}")
    command: Any = parse(COMMANDS[name], rest, prog=f"jaxprotect {name}")
    keep_compiled()
    with joined(getattr(command, "hosts", Hosts())):
        command.run()


def help_text() -> str:
    """The commands, a line each, and what a newcomer would try."""
    lines = [
        "usage: jaxprotect COMMAND [OPTIONS]",
        "",
        "Which weights must stay in high precision, and what keeping them costs.",
        "",
    ]
    for group, commands in GROUPS.items():
        lines.append(f"{group}:")
        for name, options in commands.items():
            first = (inspect.getdoc(options) or "").partition("\n")[0]
            lines.append(f"  {name:<12} {first}")
        lines.append("")
    lines += ["examples:", EXAMPLES, ""]
    lines.append("jaxprotect COMMAND --help   the command's options, defaults and examples")
    lines.append("jaxprotect --version        the version")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
