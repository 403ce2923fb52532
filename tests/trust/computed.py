"""A small evaluation, sensitivity and choice, written to a folder by a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def compute(model_name: str, folder: Path, batch_tokens: int) -> None:
    """Nats of the original and the protected model, statistics, mask and packed file."""
    import numpy as np

    from jaxprotect.evaluation.evaluate import evaluate
    from jaxprotect.evaluation.texts import load_texts
    from jaxprotect.quantization.quantize import quantize_tree
    from jaxprotect.quantization.spec import QuantSpec
    from jaxprotect.runs.mask_files import save_mask
    from jaxprotect.runs.packed_files import pack
    from jaxprotect.runs.packed_loading import load_model
    from jaxprotect.selection import masks
    from jaxprotect.selection.guided import language_guided
    from jaxprotect.selection.sensitivity import sensitivity
    from jaxprotect.trees import leaf_paths

    model = load_model(model_name)
    texts = load_texts("reference", languages=["eng_Latn", "heb_Hebr"], split="select")
    texts = texts.take(range(12))
    spec = QuantSpec(bits=3)
    original = evaluate(model, texts, batch_tokens=batch_tokens)
    statistics = sensitivity(model, texts, batch_tokens=batch_tokens)
    choice = language_guided(
        model.params,
        {language: of.square for language, of in statistics.items()},
        {language: float(values.sum()) for language, values in original.nats.items()},
        spec,
        count=masks.eligible_count(model.params) // 100,
    )
    quantized = quantize_tree(model.params, choice.mask, spec, model.config)
    protected = evaluate(model, texts, quantized, batch_tokens=batch_tokens)
    folder.mkdir()
    np.savez(folder / "original.npz", **original.nats)
    np.savez(folder / "protected.npz", **protected.nats)
    for language, of in statistics.items():
        leaves = {path.replace("/", "|"): leaf for path, leaf in leaf_paths(of.square).items()}
        np.savez(folder / f"square-{language}.npz", **leaves)
    save_mask(folder / "mask.npz", choice.mask, model)
    pack(folder / "packed", model, choice.mask, spec)


def in_a_process(
    model_name: str, folder: Path, *, batch_tokens: int = 1024, devices: int = 1, cores: int = 0
) -> Path:
    """Run `compute` in a new process, on so many host devices, on so many cores (0: all)."""
    environment = dict(os.environ) | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    options = json.dumps([model_name, str(folder), batch_tokens, cores])
    subprocess.run(
        [sys.executable, "-m", "tests.trust.computed", options],
        check=True,
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
    )
    return folder


if __name__ == "__main__":
    name, out, tokens, most = json.loads(sys.argv[1])
    if most:
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:most])
    compute(name, Path(out), tokens)
