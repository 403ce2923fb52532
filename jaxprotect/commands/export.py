"""`jaxprotect export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxprotect.commands.options import ModelOptions, Switch, group, print_json


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a packed model as a Hugging Face folder, dequantized.

    Examples:
        jaxprotect export --model packed --out exported
        jaxprotect export --model packed --out exported-fp16 --dtype float16

    Args:
        source: where the model comes from; such as a folder of `pack`.
        out: a new or empty folder.
        dtype: type of the weights; only float32 holds dequantized ones exactly.
        json: print one JSON document.
    """

    source: Annotated[ModelOptions, group("model")] = ModelOptions()
    out: Path = Path("exported")
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    json: Switch = False

    def run(self) -> None:
        """Export and say where."""
        from jaxprotect.runs.export import export_hf

        export_hf(self.out, self.source.load(), dtype=self.dtype)
        size = (self.out / "model.safetensors").stat().st_size
        found = {"folder": str(self.out), "dtype": self.dtype, "bytes": size}
        print_json(found) if self.json else print(f"{self.out}: {size:,} bytes in {self.dtype}")
