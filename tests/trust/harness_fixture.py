"""Makes `harness.json`: what lm-evaluation-harness says of the shipped model and texts.

In an environment of its own, from the root of the repository:

    pip install torch==2.13.0 lm-eval==0.4.13 transformers==5.24.0 accelerate
    python tests/trust/harness_fixture.py
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("eng_Latn", "heb_Hebr", "tam_Taml", "zho_Hans")
SENTENCES = 20
LONG = 40


def documents(language: str) -> list[str]:
    """Twenty sentences, and forty as one text that is longer than the context."""
    file = ROOT / "jaxprotect" / "reference" / "texts" / f"{language}.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    return [*lines[:SENTENCES], " ".join(lines[:LONG])]


def main() -> None:
    """Score every document as the harness does, and write the file."""
    from lm_eval.api.instance import Instance  # type: ignore[import-not-found]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]

    folder = ROOT / "jaxprotect" / "reference" / "model"
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    languages = {}
    for language in LANGUAGES:
        texts = documents(language)
        asked = [
            Instance("loglikelihood_rolling", {}, (text,), i)  # type: ignore[arg-type]
            for i, text in enumerate(texts)
        ]
        nats = [-float(value) for value in model.loglikelihood_rolling(asked)]
        size = sum(len(text.encode()) for text in texts[:SENTENCES])
        languages[language] = {
            "nats": nats[:SENTENCES],
            "bits_per_byte": sum(nats[:SENTENCES]) / size / math.log(2),
            "long_nats": nats[SENTENCES],
        }
    packages = ("lm_eval", "torch", "transformers")
    found = {"versions": {name: version(name) for name in packages}, "languages": languages}
    path = Path(__file__).with_name("harness.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
