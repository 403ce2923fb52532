"""The command line of an experiment: its Config as options, and `--json` for scripts."""

import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import tyro

from jaxprotect.commands.options import Switch, print_json
from jaxprotect.commands.parsing import parse
from jaxprotect.compile_cache import keep_compiled
from jaxprotect.endings import end_in_one_line
from jaxprotect.host_start import Hosts, joined
from jaxprotect.hosts import is_first, several
from jaxprotect.runs.remote_folder import address, working_folder
from jaxprotect.runs.results import Run
from jaxprotect.runs.summary import summarise

Config = TypeVar("Config")


def main(config: type[Config], run: Callable[[Config], Any]) -> None:
    """Entry point: options from the Config; `jaxprotect.endings` says how it may end.

    With `--json`, standard output has one JSON document, see `document`; what people read goes to
    standard error.

    Args:
        config: a dataclass of options.
        run: what to do with them.
    """
    keep_compiled()
    end_in_one_line(lambda: _run(config, run))


def document(found: Any) -> dict[str, Any]:
    """What an experiment found, as plain data.

    Args:
        found: what its `run` returns: a run, one per split, or rows.

    Returns:
        `folder` and `rows` (one per variant) of a run, `runs` of several, or `rows`; numbers that
        are not finite are None.
    """
    if isinstance(found, Run):
        return {"folder": address(found.folder), "rows": _plain(summarise(found))}
    if found and isinstance(found[0], Run):
        return {"runs": [document(run) for run in found]}
    return {"rows": _plain(found)}


def _run(config: type[Config], run: Callable[[Config], Any]) -> None:
    fields = [
        ("config", Annotated[config, tyro.conf.arg(name="")], field(default_factory=config)),
        ("json", Switch, field(default=False)),
    ]
    arguments = make_dataclass("Options", fields, frozen=True, kw_only=True)
    about, _, _ = (inspect.getdoc(config) or "").partition("Args:")
    arguments.__doc__ = f"{about.strip()}\n\nArgs:\n    json: print one JSON document, no tables.\n"
    module = Path(sys.argv[0]).stem
    asked = parse(arguments, prog=f"python -m experiments.{module}")
    setup = getattr(asked.config, "setup", None)
    with joined(Hosts() if setup is None else setup.hosts):
        if not asked.json:
            with _in_working_folders(asked.config, module) as there:
                run(there)
            return
        people = contextlib.redirect_stdout(sys.stderr if is_first() else sys.stdout)
        with people, _in_working_folders(asked.config, module) as there:
            made = document(run(there))
        print_json(made)


@contextlib.contextmanager
def _in_working_folders(config: Any, module: str) -> Iterator[Any]:
    """The options with a local folder for each URL, and on each host, to write to."""
    with contextlib.ExitStack() as stack:
        setup = getattr(config, "setup", None)
        if setup is not None and (setup.out is not None or several()):
            out = stack.enter_context(working_folder(setup.out or Path("runs") / module))
            config = replace(config, setup=replace(setup, out=out))
        if getattr(config, "statistics", None) is not None:
            shared = working_folder(config.statistics, name="statistics", shared=True)
            config = replace(config, statistics=stack.enter_context(shared))
        yield config


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
