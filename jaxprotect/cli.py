"""The command line, `jaxprotect <command>`: options in, functions called.

Heavy imports happen inside the commands, so that `--help` is quick.
"""

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
from jaxprotect.endings import end_in_one_line

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
    """Entry point of the `jaxprotect` command; `jaxprotect.endings` says how it may end."""
    keep_compiled()

    def command() -> None:
        tyro.cli(
            Command,  # type: ignore[arg-type]
            prog="jaxprotect",
            args=arguments,
            description="Which weights must stay in high precision, and what keeping them costs.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        ).run()

    end_in_one_line(command)


if __name__ == "__main__":
    main()
