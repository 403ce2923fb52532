"""The batches that plans count, against those that runs make of such sentences."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from jaxprotect.evaluation.batches import Row, batches_of
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.runs.plan_batches import Work, evaluated, measured
from jaxprotect.selection.masked_statistics import copy_batches
from jaxprotect.selection.rows import language_rows, row_batches
from jaxprotect.selection.sensitivity import BATCH_TOKENS
from tests.tiny import CONFIG

CONTEXT = 256
CAUSAL = replace(CONFIG, context=CONTEXT)
MASKED = replace(CAUSAL, family="bert", masked=True)
LANGUAGES = ("eng_Latn", "fra_Latn")
# Sentences of each language: fewer than a batch has rows, and some batches with a rest.
WORKS = [
    Work(length=length, tokens=2 * length * sentences, languages=2, batch_tokens=batch_tokens)
    for length in (8, 50, 130)
    for sentences in (3, 41)
    for batch_tokens in (1, 300, 4096)
]


def encoded(work: Work, *, masked: bool) -> Encoded:
    """Two languages of equally long sentences, as a run has them."""
    sentences = work.tokens // work.length // 2
    special = 3 if masked else 1  # the start token, or the masked one and those around a sentence
    copies = range(2, 2 + work.length) if masked else (1,)
    rows = [
        Row(
            language,
            sentence,
            [1] * (work.length + special),
            (at, at + (1 if masked else work.length)),
        )
        for language in range(2)
        for sentence in range(sentences)
        for at in copies
    ]
    counts = {name: np.full(sentences, work.length) for name in LANGUAGES}
    options = {"batch_tokens": work.batch_tokens, "max_batch": None, "padding": -1 if masked else 0}
    return Encoded(
        batches=batches_of(rows, context=CONTEXT, **options),
        languages=LANGUAGES,
        ids=tuple(range(sentences)),
        tokens=counts,
        bytes=counts,
        characters=counts,
        masked=masked,
    )


def shapes(batches) -> list[tuple[int, int, int]]:
    """How many, rows and inputs, of the largest first."""
    found = Counter(batch.tokens.shape for batch in batches)
    return sorted(
        ((n, rows, width - 1) for (rows, width), n in found.items()), key=lambda of: -of[1]
    )


def planned(batches) -> list[tuple[int, int, int]]:
    return [(of.count, of.rows, of.inputs) for of in batches]


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_a_causal_models_batches_are_those_of_a_run(work):
    texts = encoded(work, masked=False)
    assert planned([evaluated(CAUSAL, work)]) == shapes(texts.batches)
    rows, most = language_rows(texts, LANGUAGES[0]), min(work.batch_tokens, BATCH_TOKENS)
    for tight in (False, True):
        made = row_batches(rows, context=CONTEXT, batch_tokens=most, seed=0, tight=tight)
        assert planned(measured(CAUSAL, work, tight=tight)) == shapes(made)


@pytest.mark.parametrize("work", WORKS[3:9], ids=str)
def test_a_masked_models_batches_are_those_of_a_run(work):
    texts = encoded(work, masked=True)
    assert planned([evaluated(MASKED, work)]) == shapes(texts.batches)
    most = min(work.batch_tokens, BATCH_TOKENS)
    made = copy_batches(texts, LANGUAGES[0], context=CONTEXT, batch_tokens=most, seed=0)
    assert planned(measured(MASKED, work)) == shapes(made)
