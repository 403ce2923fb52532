"""The command line of an experiment: its Config as options, and `--json` for scripts."""

import contextlib
import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import tyro

from jaxprotect.commands.options import Switch, print_json
from jaxprotect.commands.parsing import parse
from jaxprotect.compile_cache import keep_compiled
from jaxprotect.endings import end_in_one_line
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
        return {"folder": str(found.folder), "rows": _plain(summarise(found))}
    if found and isinstance(found[0], Run):
        return {"runs": [document(run) for run in found]}
    return {"rows": _plain(found)}


def _run(config: type[Config], run: Callable[[Config], Any]) -> None:
    fields = [
        ("config", Annotated[config, tyro.conf.arg(name="")], field(default_factory=config)),
        ("json", Switch, field(default=False)),
    ]
    options = make_dataclass("Options", fields, frozen=True, kw_only=True)
    about, _, _ = (inspect.getdoc(config) or "").partition("Args:")
    options.__doc__ = f"{about.strip()}\n\nArgs:\n    json: print one JSON document, no tables.\n"
    module = Path(sys.argv[0]).stem
    asked = parse(options, prog=f"python -m experiments.{module}")
    if not asked.json:
        run(asked.config)
        return
    with contextlib.redirect_stdout(sys.stderr):
        found = run(asked.config)
        made = document(found)
    print_json(made)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
