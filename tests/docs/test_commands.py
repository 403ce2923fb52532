"""Every command line in README and docs is one that the real parser takes; nothing runs."""

import importlib
import inspect
import pkgutil
import shlex
import sys

import pytest

from experiments import command_line
from jaxprotect import cli, commands
from tests.docs.pages import PAGES, commands_of


@pytest.fixture
def ran(monkeypatch):
    """The parsed commands, in place of running them."""
    parsed = []
    for found in pkgutil.iter_modules(commands.__path__, "jaxprotect.commands."):
        module = importlib.import_module(found.name)
        for _, command in inspect.getmembers(module, inspect.isclass):
            if command.__module__ == found.name and "run" in vars(command):
                monkeypatch.setattr(command, "run", lambda self: parsed.append(self))
    return parsed


def take(line, ran, monkeypatch):
    """Parse a line; whether there was something to parse."""
    words = shlex.split(line, comments=True)
    if words[0] == "jaxprotect":
        if len(words) < 3:  # a command's bare name, in running text
            return False
        cli.main(words[1:])
        return True
    module = importlib.import_module(words[2])
    monkeypatch.setattr(sys, "argv", words[2:])
    command_line.main(module.Config, ran.append)
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)])
def test_commands_parse(page, ran, monkeypatch, capsys):
    for line in commands_of(page):
        before = len(ran)
        try:
            parsed = take(line, ran, monkeypatch)
        except SystemExit:
            pytest.fail(f"{page}: {line}\n{capsys.readouterr().err}")
        assert len(ran) == before + parsed, line


def test_a_wrong_option_does_not_parse(ran, monkeypatch):
    with pytest.raises(SystemExit):
        take("jaxprotect evaluate --no-such-option", ran, monkeypatch)
    with pytest.raises(SystemExit):
        take("python -m experiments.exp_011 --no-such-option", ran, monkeypatch)
    assert not ran
