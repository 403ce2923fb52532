"""jaxprotect: which weights must stay in high precision so that no language is left behind.

The public names, each imported when it is first used, so that `import jaxprotect` is quick:

>>> import jaxprotect
>>> model = jaxprotect.load_model("reference")
>>> texts = jaxprotect.load_texts("reference", split="test", languages=["eng_Latn", "heb_Hebr"])
>>> spec = jaxprotect.QuantSpec(bits=3)
>>> mask = jaxprotect.masks.by_magnitude(model.params, fraction=0.01)
>>> quantized = jaxprotect.quantize(model.params, mask, spec, model.config)
>>> base = jaxprotect.evaluate(model, texts)
>>> damages = jaxprotect.disparity(base, jaxprotect.evaluate(model, texts, quantized))
>>> sorted(damages.languages)
['eng_Latn', 'heb_Hebr']
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxprotect.errors import InputError
    from jaxprotect.evaluation.disparity import compare, disparity, disparity_table
    from jaxprotect.evaluation.evaluate import evaluate
    from jaxprotect.evaluation.power import power_curve, sentences_needed
    from jaxprotect.evaluation.streamed import evaluate_streamed
    from jaxprotect.evaluation.texts import Texts, load_texts
    from jaxprotect.models.census import census, census_of
    from jaxprotect.models.checkpoint import save_model_folder
    from jaxprotect.models.config import ModelConfig
    from jaxprotect.models.meshes import on_mesh
    from jaxprotect.models.model import Model
    from jaxprotect.models.prefill import make_prefix
    from jaxprotect.models.prefix import Prefix, prefix_bytes
    from jaxprotect.models.stored_model import StoredModel
    from jaxprotect.models.transformer import forward
    from jaxprotect.quantization.packed_params import unpack_params
    from jaxprotect.quantization.quantize import quantize
    from jaxprotect.quantization.size import protected_size
    from jaxprotect.quantization.spec import QuantSpec
    from jaxprotect.runs import plots
    from jaxprotect.runs.export import export_hf
    from jaxprotect.runs.minimal_run import find_minimal_set
    from jaxprotect.runs.packed_files import pack, packed_file_size
    from jaxprotect.runs.packed_loading import load_model, load_packed
    from jaxprotect.runs.remote_folder import working_folder
    from jaxprotect.runs.stored_loading import open_model
    from jaxprotect.selection import masks, scores
    from jaxprotect.selection.criteria import quantization_delta
    from jaxprotect.selection.gains import expected_gain
    from jaxprotect.selection.guided import language_guided
    from jaxprotect.selection.overlap import location, overlap_matrix
    from jaxprotect.selection.prefix_choice import choose_prefix
    from jaxprotect.selection.prefix_learning import learn_prefix
    from jaxprotect.selection.search import Search
    from jaxprotect.selection.sensitivity import sensitivity
    from jaxprotect.selection.targets import Target

_HOMES = {
    "InputError": "errors",
    "Model": "models.model",
    "ModelConfig": "models.config",
    "Prefix": "models.prefix",
    "QuantSpec": "quantization.spec",
    "Search": "selection.search",
    "StoredModel": "models.stored_model",
    "Target": "selection.targets",
    "Texts": "evaluation.texts",
    "census": "models.census",
    "census_of": "models.census",
    "choose_prefix": "selection.prefix_choice",
    "compare": "evaluation.disparity",
    "disparity": "evaluation.disparity",
    "disparity_table": "evaluation.disparity",
    "evaluate": "evaluation.evaluate",
    "evaluate_streamed": "evaluation.streamed",
    "expected_gain": "selection.gains",
    "export_hf": "runs.export",
    "find_minimal_set": "runs.minimal_run",
    "forward": "models.transformer",
    "language_guided": "selection.guided",
    "learn_prefix": "selection.prefix_learning",
    "load_model": "runs.packed_loading",
    "load_packed": "runs.packed_loading",
    "load_texts": "evaluation.texts",
    "location": "selection.overlap",
    "make_prefix": "models.prefill",
    "masks": "selection.masks",
    "on_mesh": "models.meshes",
    "open_model": "runs.stored_loading",
    "overlap_matrix": "selection.overlap",
    "pack": "runs.packed_files",
    "packed_file_size": "runs.packed_files",
    "plots": "runs.plots",
    "power_curve": "evaluation.power",
    "prefix_bytes": "models.prefix",
    "protected_size": "quantization.size",
    "quantization_delta": "selection.criteria",
    "quantize": "quantization.quantize",
    "save_model_folder": "models.checkpoint",
    "scores": "selection.scores",
    "sensitivity": "selection.sensitivity",
    "sentences_needed": "evaluation.power",
    "unpack_params": "quantization.packed_params",
    "working_folder": "runs.remote_folder",
}
"""Public name -> the module of this package that defines it."""

__all__ = [
    "InputError",
    "Model",
    "ModelConfig",
    "Prefix",
    "QuantSpec",
    "Search",
    "StoredModel",
    "Target",
    "Texts",
    "census",
    "census_of",
    "choose_prefix",
    "compare",
    "disparity",
    "disparity_table",
    "evaluate",
    "evaluate_streamed",
    "expected_gain",
    "export_hf",
    "find_minimal_set",
    "forward",
    "language_guided",
    "learn_prefix",
    "load_model",
    "load_packed",
    "load_texts",
    "location",
    "make_prefix",
    "masks",
    "on_mesh",
    "open_model",
    "overlap_matrix",
    "pack",
    "packed_file_size",
    "plots",
    "power_curve",
    "prefix_bytes",
    "protected_size",
    "quantization_delta",
    "quantize",
    "save_model_folder",
    "scores",
    "sensitivity",
    "sentences_needed",
    "unpack_params",
    "working_folder",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxprotect' has no attribute {name!r}")
    home = importlib.import_module(f"jaxprotect.{_HOMES[name]}")
    value = getattr(home, name, home)  # `masks`, `plots` and `scores` are modules
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
