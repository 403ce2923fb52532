"""`jaxprotect export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxprotect.commands.options import print_json


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a packed model as an ordinary Hugging Face folder, dequantized, for other tools.

    Args:
        model: a folder of `pack`; or `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        out: a new or empty folder.
        dtype: type of the weights; only float32 holds dequantized ones exactly.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    out: Path = Path("exported")
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    json: bool = False

    def run(self) -> None:
        """Export and say where."""
        from jaxprotect.runs.export import export_hf
        from jaxprotect.runs.packed_loading import load_model

        model = load_model(self.model, revision=self.revision)
        export_hf(self.out, model, dtype=self.dtype)
        size = (self.out / "model.safetensors").stat().st_size
        found = {"folder": str(self.out), "dtype": self.dtype, "bytes": size}
        print_json(found) if self.json else print(f"{self.out}: {size:,} bytes in {self.dtype}")
