"""Every test runs with jaxtyping's shapes checked by beartype, on the CPU."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  (the hook looks it up by name)

install_import_hook("jaxprotect", "tests.typecheck.checked")
