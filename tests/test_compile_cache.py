import os
import subprocess
import sys

import pytest

from jaxprotect.compile_cache import VARIABLE, cache_folder

PROGRAM = """
import sys
from jaxprotect.compile_cache import keep_compiled
{before}
keep_compiled()
import jax
print(jax.config.jax_compilation_cache_dir)
"""


def folder_in_use(before: str = "", **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("before", ["", "import jax"])
def test_programs_are_kept_in_the_cache_folder(tmp_path, before):
    used = folder_in_use(before, XDG_CACHE_HOME=str(tmp_path))
    assert used == str(tmp_path / "jaxprotect" / "compiled")


def test_a_folder_that_the_user_chose_stays(tmp_path):
    assert folder_in_use(**{VARIABLE: str(tmp_path)}) == str(tmp_path)


def test_without_a_setting_it_is_in_the_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.cache/jaxprotect/compiled"
