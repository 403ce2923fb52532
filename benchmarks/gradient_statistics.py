"""Sums of g, |g| and g^2 over sentences: one backward pass against a loop and against vmap."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceilings import matrix_product_rate
from benchmarks.memory import peak_of
from benchmarks.rows import Row, bounded, share, speedup
from benchmarks.shapes import Options, gpt2, matrix_products, random_params
from benchmarks.timing import interleaved
from benchmarks.torch_peer import finished, tensor, torch_device, torch_twin
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.evaluation.texts import load_texts
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub import load_model
from jaxprotect.models.model import Model
from jaxprotect.selection.rows import Row as Sentence
from jaxprotect.selection.rows import language_rows
from jaxprotect.selection.sensitivity import language_statistics

LANGUAGE = "eng_Latn"
AT_ONCE = 4
"""Sentences that vmap differentiates at a time: 2 GB of gradients at GPT-2's size."""


def sentences(config: ModelConfig, options: Options) -> Encoded:
    """The shipped English select sentences: real lengths, ids of the reference tokenizer."""
    texts = load_texts("reference", languages=[LANGUAGE], split="select")
    texts = texts.take(range(4 if options.small else 40))
    reference = load_model("reference")
    model = Model(config=config, params={}, tokenizer=reference.tokenizer, name="", sha256="")
    return encode(model, texts)


def run(options: Options) -> list[Row]:
    """One language of 40 sentences, float32."""
    config = gpt2(options)
    params, encoded = random_params(config), sentences(config, options)
    rows = language_rows(encoded, LANGUAGE)
    with tempfile.TemporaryDirectory() as folder:
        model = torch_twin(params, config, Path(folder) / "model", attention="eager")

    def ours() -> Any:
        return language_statistics(params, encoded, config, language=LANGUAGE)

    square, expected = ours().square, torch_loop(model, rows)
    np.testing.assert_allclose(
        float(square["blocks"]["mlp"]["up"]["kernel"].sum()),
        float(sum(v.sum() for name, v in expected.items() if name.endswith("mlp.c_fc.weight"))),
        rtol=1e-3,
    )
    loop, vmap = lambda: torch_loop(model, rows), lambda: torch_vmap(model, rows)
    timed = interleaved({"ours": ours, "loop": loop}, repeats=options.repeats)
    slow = interleaved({"ours": ours, "vmap": vmap}, repeats=1)
    name = f"gradient statistics, {len(rows)} sentences, float32"
    work = sum(3 * matrix_products(config, n, n, n) for n in (len(row.tokens) - 1 for row in rows))
    limit = matrix_product_rate(options.repeats)
    found = [
        Row(benchmark=name, against="", value=timed.median("ours"), unit="s"),
        speedup(name, "torch backward loop", timed.ratio("loop", "ours"), 1.7),
        speedup(name, "torch vmap(grad)", slow.ratio("vmap", "ours"), 1.0),
        share(name, "matrix-product rate", work / timed.median("ours") / limit, 0.7),
    ]
    del model, square, expected
    if torch_device() != "cpu":
        return found  # the memory of a process is the host's
    small = ("--small",) if options.small else ()
    memory = peak_of("benchmarks.gradient_memory", "ours", *small)
    other = peak_of("benchmarks.gradient_memory", "vmap", *small)
    title = f"{name}: memory beyond the model"
    found.append(bounded(title, "torch vmap(grad)", memory / other, "of its memory", 1 / 3))
    return found


def torch_loop(model: Any, rows: list[Sentence]) -> dict[str, Any]:
    """sum g^2 by name, as a user would write it: one backward pass per sentence."""
    import torch

    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in named.items()}
    absolute = {name: torch.zeros_like(value) for name, value in named.items()}
    square = {name: torch.zeros_like(value) for name, value in named.items()}
    for row in rows:
        model.zero_grad(set_to_none=True)
        tokens = tensor(row.tokens).long()[None]
        logits = model(tokens[:, :-1]).logits[0]
        torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").backward()
        with torch.no_grad():
            for name, value in named.items():
                assert value.grad is not None
                total[name].add_(value.grad)
                absolute[name].add_(value.grad.abs())
                square[name].addcmul_(value.grad, value.grad)
    model.zero_grad(set_to_none=True)
    return finished(square)


def torch_vmap(model: Any, rows: list[Sentence]) -> dict[str, Any]:
    """The same by `torch.func`, a few padded sentences at a time."""
    import torch
    from torch.func import functional_call, grad, vmap

    named = {name: value.detach() for name, value in model.named_parameters()}
    # Masks are data-dependent in `transformers`: a causal one is given.
    longest = max(len(row.tokens) for row in rows) - 1
    lowest, there = torch.finfo(torch.float32).min, torch_device()
    mask = torch.full((longest, longest), lowest, device=there).triu(1)[None, None]

    def loss(weights: dict, tokens: Any, targets: Any) -> Any:
        keywords = {"attention_mask": mask, "use_cache": False}
        logits = functional_call(model, weights, (tokens[None],), keywords).logits[0]
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    per_sentence = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in named.items()}
    absolute = {name: torch.zeros_like(value) for name, value in named.items()}
    square = {name: torch.zeros_like(value) for name, value in named.items()}
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        tokens = torch.zeros((len(part), longest), dtype=torch.long, device=there)
        targets = torch.full((len(part), longest), -100, device=there)
        for i, row in enumerate(part):
            used = len(row.tokens) - 1
            tokens[i, :used] = torch.from_numpy(row.tokens[:-1]).long()
            targets[i, :used] = torch.from_numpy(row.tokens[1:]).long()
        with torch.no_grad():
            for name, value in per_sentence(named, tokens, targets).items():
                total[name] += value.sum(0)
                absolute[name] += value.abs().sum(0)
                square[name] += value.square().sum(0)
    return finished(square)
