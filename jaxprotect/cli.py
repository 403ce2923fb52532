"""The command line, `jaxprotect <command>`: options in, functions called.

Heavy imports happen inside the commands, so that `--help` is quick.
"""

import sys
from typing import Annotated

import tyro

from jaxprotect.commands.census import Census
from jaxprotect.commands.evaluate import Evaluate
from jaxprotect.commands.export import Export
from jaxprotect.commands.minimal_set import MinimalSet
from jaxprotect.commands.pack import Pack
from jaxprotect.commands.recommend import Recommend
from jaxprotect.commands.report import Report
from jaxprotect.commands.sensitivity import Sensitivity
from jaxprotect.compile_cache import keep_compiled
from jaxprotect.errors import InputError

Command = (
    Annotated[Census, tyro.conf.subcommand("census")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sensitivity, tyro.conf.subcommand("sensitivity")]
    | Annotated[MinimalSet, tyro.conf.subcommand("minimal-set")]
    | Annotated[Pack, tyro.conf.subcommand("pack")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Recommend, tyro.conf.subcommand("recommend")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `jaxprotect` command; bad input is one line and exit code 2."""
    keep_compiled()
    try:
        command = tyro.cli(
            Command,  # type: ignore[arg-type]
            prog="jaxprotect",
            args=arguments,
            description="Which weights must stay in high precision, and what keeping them costs.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        command.run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
