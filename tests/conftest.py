"""Every test runs with jaxtyping's shapes checked by beartype, on the CPU."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook("jaxprotect", "beartype.beartype")
