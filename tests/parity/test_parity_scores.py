"""Published scores, made with torch sentence by sentence, against ours from batched statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import GPT2Config

from jaxprotect.evaluation.batches import Batch
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.models.checkpoint import load_params
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import load_config
from jaxprotect.models.layouts import from_stored
from jaxprotect.models.tensor_names import written_names
from jaxprotect.selection.scores import CRITERIA
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.selection.statistics import Statistics
from jaxprotect.trees import leaf_paths, map_leaves
from tests.parity.conftest import make_model

RTOL = 1e-4
LENGTHS = (15, 4, 9, 12, 2, 7)
VOCABULARY = 31

Tensors = dict[str, torch.Tensor]


class Torch(NamedTuple):
    """What torch says, by parameter name; `inputs` and `outputs` of a product by its kernel's."""

    weights: Tensors
    gradients: list[Tensors]
    inputs: Tensors
    outputs: Tensors
    delta: Tensors

    def scores(self, criterion: str) -> Tensors:
        """A criterion's scores of every parameter."""
        w, d = self.weights, self.delta
        g = {name: torch.stack([one[name] for one in self.gradients]) for name in w}
        total, square = (
            {n: f(v).sum(0) for n, v in g.items()} for f in (torch.clone, torch.square)
        )
        elementwise: dict[str, Callable[[str], torch.Tensor]] = {
            "magnitude": lambda n: w[n].abs(),
            "gradient": lambda n: total[n].abs(),
            "gradient_weight": lambda n: (total[n] * w[n]).abs(),
            "fisher": lambda n: square[n] / len(LENGTHS),
            "fisher_delta": lambda n: square[n] * d[n] ** 2 / 2,
            "tacq": lambda n: g[n].abs().sum(0) * d[n].abs() * w[n].abs(),
            "gradient_delta": lambda n: (total[n] * d[n]).abs(),
            "taylor": lambda n: total[n] * d[n] + square[n] * d[n] ** 2 / 2,
        }
        if criterion in elementwise:
            return {name: elementwise[criterion](name) for name in w}
        of_product = {
            "activation_aware": self._awq,
            "wanda": self._wanda,
            "owq_columns": self._owq,
            "super_weights": self._super_weight,
        }[criterion]
        zero = {name: torch.zeros_like(weight) for name, weight in w.items()}
        return zero | {name: of_product(name) for name in self.inputs}

    # Matrices of GPT-2's Conv1D are (inputs, outputs), those of the head (outputs, inputs).

    def _awq(self, name: str) -> torch.Tensor:
        return _by_input(name, self.inputs[name].abs().mean(0)).expand_as(self.weights[name])

    def _wanda(self, name: str) -> torch.Tensor:
        return self.weights[name].abs() * _by_input(name, self.inputs[name].norm(p=2, dim=0))

    def _owq(self, name: str) -> torch.Tensor:
        x = self.inputs[name]
        hessian = 2 * x.T @ x
        error = self.delta[name].square().sum(0 if _is_head(name) else 1)
        return _by_input(name, hessian.diag() * error).expand_as(self.weights[name])

    def _super_weight(self, name: str) -> torch.Tensor:
        score = torch.zeros_like(self.weights[name])
        if name.endswith("mlp.c_proj.weight"):
            x, y = (values[name].abs().amax(0) for values in (self.inputs, self.outputs))
            score[x.argmax(), y.argmax()] = x.max() * y.max()
        return score


def _is_head(name: str) -> bool:
    return "wte" in name or "lm_head" in name


def _by_input(name: str, values: torch.Tensor) -> torch.Tensor:
    return values if _is_head(name) else values[:, None]


def round_to_nearest(weight: torch.Tensor) -> torch.Tensor:
    """What 3 bits with one scale per tensor change."""
    scale = weight.abs().max() / 3
    return (weight / scale).round() * scale - weight


def measure(model: Any, sentences: list[np.ndarray]) -> Torch:
    """Every sentence's gradient by its own backward pass, in float64, and all products' data."""
    model = model.double()
    names = {module: name for name, module in model.named_modules()}
    weights = dict(model.named_parameters())
    inputs: dict[str, list[torch.Tensor]] = {}
    outputs: dict[str, list[torch.Tensor]] = {}

    def record(module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        name = f"{names[module]}.weight"
        name = name if name in weights else "transformer.wte.weight"  # the tied head
        bias = getattr(module, "bias", None)
        product = output if bias is None else output - bias
        inputs.setdefault(name, []).append(args[0].detach()[0])
        outputs.setdefault(name, []).append(product.detach()[0])

    for name, module in model.named_modules():
        if name.endswith(("c_attn", "c_proj", "c_fc", "lm_head")):
            module.register_forward_hook(record)
    gradients = []
    for tokens in sentences:
        row = torch.from_numpy(tokens)[None]
        model.zero_grad()
        logits = model(row[:, :-1]).logits[0]
        torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").backward()
        gradients.append({name: weight.grad.clone() for name, weight in weights.items()})
    values = {name: weight.detach() for name, weight in weights.items()}
    return Torch(
        weights=values,
        gradients=gradients,
        inputs={name: torch.cat(all_of) for name, all_of in inputs.items()},
        outputs={name: torch.cat(all_of) for name, all_of in outputs.items()},
        delta={name: round_to_nearest(weight) for name, weight in values.items()},
    )


def encode(sentences: list[np.ndarray]) -> Encoded:
    """The sentences as one batch, padded, with rows of no sentence between them."""
    rows, length = 2 * len(sentences), max(map(len, sentences))
    tokens, scored = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
    owner = np.full(rows, -1, np.int32)
    for i, sentence in enumerate(sentences):
        tokens[2 * i, : len(sentence)] = sentence
        scored[2 * i, 1 : len(sentence)] = True
        owner[2 * i] = i
    counts = np.array([len(sentence) - 1 for sentence in sentences])
    return Encoded(
        batches=(
            Batch(
                tokens=tokens,
                scored=scored,
                language=np.where(owner < 0, -1, 0).astype(np.int32),
                sentence=owner,
            ),
        ),
        languages=("x",),
        ids=tuple(range(len(sentences))),
        tokens={"x": counts},
        bytes={"x": counts},
        characters={"x": counts},
    )


def in_our_layout(tensors: Tensors, config: ModelConfig) -> dict[str, np.ndarray]:
    """Leaf path -> values, layers stacked."""
    leaves: dict[str, list[np.ndarray]] = {}
    slots = written_names(config)
    assert slots.keys() == tensors.keys()
    for name, slot in sorted(slots.items(), key=lambda item: item[1].layer or 0):
        values = from_stored(tensors[name].numpy(), slot, config)
        leaves.setdefault(slot.leaf, []).append(values)
    return {
        path: np.stack(values) if path.startswith("blocks/") else values[0]
        for path, values in leaves.items()
    }


class Both(NamedTuple):
    """One model on both sides."""

    config: ModelConfig
    params: dict
    statistics: Statistics
    torch: Torch


UNTIED = pytest.param(False, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[True, UNTIED], ids=["tied", "untied"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    sizes: dict[str, object] = {"n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 16}
    hf_config = GPT2Config.from_dict(
        sizes | {"vocab_size": VOCABULARY, "tie_word_embeddings": request.param}
    )
    model = make_model(hf_config)
    folder: Path = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    config = load_config(folder)
    params, _ = load_params(folder, config)
    generator = np.random.default_rng(3)
    sentences = [generator.integers(0, VOCABULARY, length) for length in LENGTHS]
    return Both(
        config=config,
        params=params,
        statistics=language_statistics(params, encode(sentences), config, batch_tokens=64),
        torch=measure(model, sentences),
    )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_those_of_torch(both, criterion):
    delta = in_our_layout(both.torch.delta, both.config)
    delta = map_leaves(lambda path, leaf: delta[path].astype(np.float32), both.params)
    ours = leaf_paths(CRITERIA[criterion](both.params, both.statistics, delta))
    theirs = in_our_layout(both.torch.scores(criterion), both.config)
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        # Sums of opposite signs cancel: what is left is compared on the leaf's own scale.
        floor = 3e-6 * np.abs(expected).max()
        np.testing.assert_allclose(ours[path], expected, rtol=RTOL, atol=floor, err_msg=path)


def test_the_statistics_count_sentences_and_tokens(both):
    assert both.statistics.sentences == len(LENGTHS)
    assert both.statistics.tokens == sum(LENGTHS) - len(LENGTHS)
