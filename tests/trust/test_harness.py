"""Nats and bits per byte are lm-evaluation-harness's, on the shipped model and texts."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxprotect.evaluation.evaluate import evaluate
from jaxprotect.evaluation.rates import language_rates
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.hub import load_model
from tests.trust.harness_fixture import LANGUAGES, SENTENCES, documents

RECORDED = json.loads(Path(__file__).with_name("harness.json").read_text())["languages"]


@pytest.fixture(scope="module")
def model():
    return load_model("reference")


def of(documents_of: dict[str, list[str]]) -> Texts:
    count = len(next(iter(documents_of.values())))
    return Texts(
        sentences={language: tuple(lines) for language, lines in documents_of.items()},
        ids=tuple(range(1, count + 1)),
        source="test",
    )


def test_every_sentence_and_bits_per_byte(model):
    evaluation = evaluate(model, of({name: documents(name)[:SENTENCES] for name in LANGUAGES}))
    rates = {row["language"]: row["bits_per_byte"] for row in language_rates(evaluation, draws=100)}
    for language, expected in RECORDED.items():
        np.testing.assert_allclose(evaluation.nats[language], expected["nats"], rtol=2e-6)
        assert rates[language] == pytest.approx(expected["bits_per_byte"], rel=1e-6)


def test_a_text_longer_than_the_context_is_cut_as_theirs(model):
    evaluation = evaluate(model, of({name: documents(name)[SENTENCES:] for name in LANGUAGES}))
    for language, expected in RECORDED.items():
        assert evaluation.tokens[language][0] > 3 * model.config.context
        assert evaluation.nats[language][0] == pytest.approx(expected["long_nats"], rel=1e-6)
