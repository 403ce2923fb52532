"""`jaxprotect pack`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jaxprotect.commands.options import PlacedModelOptions, Switch, group, print_json
from jaxprotect.errors import InputError
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Write a quantized model, packed to the size that it claims.

    Examples:
        jaxprotect pack --bits 3 --protect 0.01 --out packed
        jaxprotect pack --bits 3 --mask runs/minimal-set/mask.npz --out packed

    Args:
        source: where the model comes from.
        out: a new or empty folder.
        mask: a mask file, such as `mask.npz` of minimal-set.
        protect: share of the eligible weights to keep, largest |w| first; instead of a mask.
        spec: how weights are rounded.
        json: print one JSON document.
    """

    source: Annotated[PlacedModelOptions, group("model")] = PlacedModelOptions()
    out: Path = Path("packed")
    mask: Path | None = None
    protect: float | None = None
    spec: Annotated[QuantSpec, group("quantizer")] = QuantSpec(protected_dtype="float16")
    json: Switch = False

    def run(self) -> None:
        """Pack and print the bytes, predicted and real."""
        from jaxprotect.quantization.size import original_size
        from jaxprotect.runs.mask_files import load_mask
        from jaxprotect.runs.packed_files import pack, packed_file_size
        from jaxprotect.runs.tables import print_packed
        from jaxprotect.selection import masks

        if self.mask is not None and self.protect is not None:
            raise InputError("`mask` and `protect` are both given; allowed: one of them")
        model = self.source.load()
        mask = (
            load_mask(self.mask, model)
            if self.mask is not None
            else masks.by_magnitude(
                model.params, fraction=self.protect or 0.0, eligible=self.spec.eligible
            )
        )
        size = pack(self.out, model, mask, self.spec)
        found = {
            "folder": str(self.out),
            "quantizer": self.spec.label,
            "predicted": packed_file_size(model.params, mask, self.spec, model.config),
            "written": (self.out / "model.safetensors").stat().st_size,
            "arrays": size.total,
            "float16": original_size(model.params, "float16"),
            "bits_per_weight": size.bits_per_weight,
            "parts": size.rows(),
        }
        print_json(found) if self.json else print_packed(found)
