"""With a cached prefix every window begins with it, and every token is still scored once."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import encode_texts
from jaxprotect.evaluation.evaluate import encode, evaluate, evaluate_encoded
from jaxprotect.evaluation.windows import prefixed_windows
from jaxprotect.models.model import Model
from jaxprotect.models.prefill import make_prefix
from jaxprotect.models.transformer import forward
from tests.evaluation.test_encoding import (
    BOS,
    CONFIG,
    LETTERS,
    byte_tokenizer,
    make_texts,
    random_params,
    rows_of,
)

MODEL = Model(config=CONFIG, params=random_params(0), tokenizer=byte_tokenizer(), name="tiny")
SHORT = make_texts(a=("ok", "short one"), b=("д", "短い"))


def assert_same_nats(a, b, rtol=1e-5):
    for language, nats in a.nats.items():
        np.testing.assert_allclose(b.nats[language], nats, rtol=rtol, err_msg=language)


@given(count=st.integers(1, 80), room=st.integers(1, 20))
def test_every_token_is_predicted_once_after_the_slot(count, room):
    tokens = list(range(100, 100 + count))
    windows = prefixed_windows(tokens, 7, room)
    assert [token for _, targets in windows for token in targets] == tokens
    position = 0
    for i, (before, targets) in enumerate(windows):
        slot, *context = before
        assert slot == 7
        assert context == tokens[position - len(context) : position]
        inputs = len(context) + len(targets) - 1
        assert inputs == (min(count - 1, room) if i == 0 else room)
        assert bool(context) == (i > 0)
        position += len(targets)


def test_an_empty_text_has_no_window():
    assert prefixed_windows([], 7, 3) == []


@pytest.mark.parametrize("prefix_tokens", [1, 2, 5, 23])
def test_rows_leave_the_prefix_its_positions(prefix_tokens):
    encoded = encode_texts(LETTERS, byte_tokenizer(), context=24, prefix_tokens=prefix_tokens)
    assert encoded.prefix_tokens == prefix_tokens
    for _, _, tokens, scored in rows_of(encoded):
        assert tokens[0] == BOS
        assert not scored[0]
        assert prefix_tokens + len(tokens) - 2 <= 24
    scored = sum(int(batch.scored.sum()) for batch in encoded.batches)
    assert scored == sum(int(counts.sum()) for counts in encoded.tokens.values())


def test_without_a_prefix_nothing_changes():
    plain, none = (
        encode_texts(LETTERS, byte_tokenizer(), context=24, **options)
        for options in ({}, {"prefix_tokens": 0})
    )
    for a, b in zip(plain.batches, none.batches, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.scored, b.scored)


def test_the_start_token_of_the_same_weights_changes_no_nats():
    prefix = make_prefix(MODEL.params, [BOS], CONFIG)
    assert_same_nats(evaluate(MODEL, SHORT), evaluate(MODEL, SHORT, prefix=prefix))
    encoded = encode(MODEL, LETTERS, prefix_tokens=1)  # later windows begin with BOS in both
    plain = evaluate_encoded(MODEL.params, encoded, CONFIG)
    assert_same_nats(plain, evaluate_encoded(MODEL.params, encoded, CONFIG, prefix))


def test_nats_are_those_of_every_window_after_the_prefix():
    tokens = (9, BOS, 4)
    prefix = make_prefix(MODEL.params, tokens, CONFIG)
    nats = evaluate(MODEL, LETTERS, prefix=prefix).nats["a"][1]
    text = MODEL.tokenizer(LETTERS.sentences["a"][1])["input_ids"]
    total, windows = 0.0, prefixed_windows(text, BOS, 21)
    assert len(windows) > 2
    for before, targets in windows:
        row = [*tokens, *before[1:], *targets]
        logits = np.asarray(forward(MODEL.params, jnp.array([row[:-1]]), CONFIG))[0]
        logits = logits[-len(targets) :].astype(np.float64)
        chosen = logits[np.arange(len(targets)), targets]
        total += float((np.log(np.exp(logits).sum(-1)) - chosen).sum())
    np.testing.assert_allclose(nats, total, rtol=1e-5)


def test_batches_and_room_to_spare_change_no_nats():
    prefix = make_prefix(MODEL.params, [9, BOS], CONFIG)
    whole = evaluate(MODEL, LETTERS, prefix=prefix)
    assert_same_nats(whole, evaluate(MODEL, LETTERS, prefix=prefix, batch_tokens=40))
    roomy = encode(MODEL, SHORT, prefix_tokens=9)
    exact = evaluate(MODEL, SHORT, prefix=prefix)
    assert_same_nats(exact, evaluate_encoded(MODEL.params, roomy, CONFIG, prefix))


def test_texts_without_room_for_the_prefix_are_refused():
    prefix = make_prefix(MODEL.params, [9, BOS], CONFIG)
    for room in (0, 1):
        encoded = encode(MODEL, SHORT, prefix_tokens=room)
        with pytest.raises(InputError, match=rf"`prefix` has 2 tokens; .* room for {room}"):
            evaluate_encoded(MODEL.params, encoded, CONFIG, prefix)


def test_the_seed_protocol_has_no_prefix():
    prefix = make_prefix(MODEL.params, [BOS], CONFIG)
    with pytest.raises(InputError, match="`start` is 'shift' with 1 prefix tokens"):
        evaluate(MODEL, SHORT, start="shift", prefix=prefix)


@pytest.mark.parametrize("prefix_tokens", [-1, 24])
def test_impossible_prefixes_are_refused(prefix_tokens):
    with pytest.raises(InputError, match=rf"`prefix_tokens` is {prefix_tokens}; .* 0 to 23"):
        encode_texts(SHORT, byte_tokenizer(), context=24, prefix_tokens=prefix_tokens)


def test_a_prefix_of_another_architecture_is_refused():
    other = replace(CONFIG, layers=1)
    prefix = make_prefix(MODEL.params, [BOS], CONFIG)
    encoded = encode(MODEL, SHORT, prefix_tokens=1)
    with pytest.raises(InputError, match="`prefix` has keys of shape"):
        evaluate_encoded(MODEL.params, encoded, other, prefix)
