"""Compiled programs are kept between runs, so that a second run starts at once."""

import os
import sys
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own variable: where it is set, that folder is used. JAX_ENABLE_COMPILATION_CACHE=false
turns the cache off."""

MOST_BYTES = 2**30
"""Least recently used programs are deleted beyond this."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/jaxprotect/compiled`, in `~/.cache` by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxprotect/compiled"


def keep_compiled() -> None:
    """Tell JAX where to keep compiled programs; call it once, at the start of a program.

    JAX need not be imported yet, and is not. Results do not change: what is read back is the
    program that was compiled, under a key of its code, its options, versions and processor.
    """
    if VARIABLE in os.environ:
        return
    os.environ[VARIABLE] = str(cache_folder())
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MOST_BYTES))
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_compilation_cache_dir", os.environ[VARIABLE])
        jax.config.update(
            "jax_compilation_cache_max_size", int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"])
        )
