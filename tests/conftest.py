"""Every test runs with jaxtyping's shapes checked by beartype, on the CPU."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Workers, and later runs, compile a program once; most of a test's time is compilation.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  (the hook looks it up by name)

install_import_hook("jaxprotect", "tests.typecheck.checked")
