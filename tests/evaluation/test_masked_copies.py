"""Every token is masked and scored exactly once, and no batch or padding changes the result."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation import loss
from jaxprotect.evaluation.evaluate import encode, evaluate, evaluate_encoded
from jaxprotect.evaluation.loss import sentence_nats, token_nats
from jaxprotect.evaluation.masked_copies import encode_masked, masked_copies
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import PADDING, forward, unembed
from tests.masked import TOKENIZERS, masked_config
from tests.tiny import CONFIG, random_params

SENTENCES = {
    "deu": ("das ist schön.", "the über the", "ein langer satz, the sleeping dog is barking"),
    "zho": ("的是。", "是", "的的的 的是是"),
}
TEXTS = Texts(sentences=SENTENCES, ids=(11, 12, 13), source="s")
EVERY = pytest.mark.parametrize("family", TOKENIZERS)


def model_of(family: str, **changes: object) -> Model:
    config = masked_config(family, **changes)
    return Model(
        config=config,
        params=random_params(config),
        tokenizer=TOKENIZERS[family](),
        name="tiny",
    )


@pytest.mark.parametrize("length", [1, 4, 5, 9])
@pytest.mark.parametrize("context", [3, 4, 7, 11])
def test_every_token_is_masked_once_in_the_middle_of_what_fits(length, context):
    sentence = list(range(100, 100 + length))
    copies = list(masked_copies(sentence, mask=4, first=0, last=1, context=context))
    assert [row[0] for row, _ in copies] == sentence
    for index, (row, column) in enumerate(copies):
        inputs = row[1:]
        assert len(inputs) == min(context, length + 2)
        assert (inputs[0], inputs[-1]) == (0, 1)
        assert [i for i, token in enumerate(row) if token == 4] == [column]
        shown = [*inputs[1 : column - 1], sentence[index], *inputs[column:-1]]
        begin = shown[0] - 100
        assert shown == sentence[begin : begin + len(shown)]
        # As far from both ends as the sentence allows.
        room = context - 2
        assert column - 2 == index or column - 2 >= room // 2 or begin + room == length


def test_the_rest_of_a_word_is_masked_too():
    copies = masked_copies(
        [5, 6, 7, 8, 9], mask=4, first=0, last=1, context=9, words=[0, 0, 0, 1, None]
    )
    assert [row[1:] for row, _ in copies] == [
        [0, 4, 4, 4, 8, 9, 1],
        [0, 5, 4, 4, 8, 9, 1],
        [0, 5, 6, 4, 8, 9, 1],
        [0, 5, 6, 7, 4, 9, 1],
        [0, 5, 6, 7, 8, 4, 1],
    ]


def pieces_hidden(family: str, language: str, line: int) -> list[int]:
    """How many tokens each copy of a sentence hides."""
    encoded = encode(model_of(family), TEXTS, masking="word")
    mask = TOKENIZERS[family]().mask_token_id
    return [
        int((tokens == mask).sum())
        for batch in encoded.batches
        for tokens, index, sentence in zip(
            batch.tokens, batch.language, batch.sentence, strict=True
        )
        if index >= 0 and encoded.languages[index] == language and sentence == line
    ]


def test_words_are_those_of_the_tokenizer():
    # the | über, four pieces | the
    assert pieces_hidden("bert", "deu", 1) == [1, 4, 3, 2, 1, 1]
    # BERT's tokenizer makes every Chinese character a word; SentencePiece splits at spaces.
    assert pieces_hidden("bert", "zho", 0) == [1, 1, 1]
    assert pieces_hidden("xlm-roberta", "zho", 0) == [4, 3, 2, 1]


@EVERY
def test_the_tokens_are_the_tokenizers_and_special_ones_are_not_scored(family):
    tokenizer = TOKENIZERS[family]()
    encoded = encode(model_of(family), TEXTS)
    for language, sentences in SENTENCES.items():
        whole = [tokenizer(sentence)["input_ids"] for sentence in sentences]
        assert encoded.tokens[language].tolist() == [len(ids) - 2 for ids in whole]
    for batch in encoded.batches:
        for tokens, scored, language, sentence in zip(
            batch.tokens, batch.scored, batch.language, batch.sentence, strict=True
        ):
            if language < 0:
                assert (tokens == PADDING).all()
                assert not scored.any()
                continue
            (column,) = np.flatnonzero(scored)
            assert tokens[column] == tokenizer.mask_token_id
            seen = tokens.copy()
            seen[column] = tokens[0]
            original = tokenizer(SENTENCES[encoded.languages[language]][sentence])["input_ids"]
            assert seen[1:][seen[1:] >= 0].tolist() == original
            assert 0 < column - 1 < len(original) - 1
    assert 0 <= encoded.padding < 1


@EVERY
def test_nats_are_those_of_the_logits_and_do_not_depend_on_batches(family):
    model = model_of(family)
    tokenizer = model.tokenizer
    logits_of = jax.jit(forward, static_argnums=2)
    short = TEXTS.take([0, 1])
    whole = evaluate(model, short)
    single = evaluate(model, short, batch_tokens=1)
    for language in ("deu", "zho"):
        np.testing.assert_allclose(whole.nats[language], single.nats[language], rtol=2e-6)
        ids = tokenizer(SENTENCES[language][0])["input_ids"]
        expected = 0.0
        for at in range(1, len(ids) - 1):
            inputs = np.full((1, 20), PADDING, np.int32)
            inputs[0, : len(ids)] = ids
            inputs[0, at] = tokenizer.mask_token_id
            logits = np.asarray(logits_of(model.params, inputs, model.config), np.float64)[0, at]
            expected += np.log(np.exp(logits).sum()) - logits[ids[at]]
        assert whole.nats[language][0] == pytest.approx(expected, rel=1e-5)


def test_few_shapes_and_few_logits_at_a_time(monkeypatch):
    model = model_of("bert")
    encoded = encode(model, TEXTS, batch_tokens=700)
    assert len(encoded.batches) > len(encoded.shapes) == len({t for _, t in encoded.shapes})
    batch, made = encoded.batches[0], []
    of_batch = (model.params, jnp.asarray(batch.tokens), jnp.asarray(batch.scored), model.config)
    whole = jax.jit(sentence_nats, static_argnums=3)(*of_batch)

    def seen(params, hidden, config):
        made.append(hidden.shape[0] * config.vocab_size)
        return unembed(params, hidden, config)

    monkeypatch.setattr(loss, "unembed", seen)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 5 * model.config.vocab_size)
    chunked = jax.jit(lambda *of: sentence_nats(*of), static_argnums=3)(*of_batch)
    assert len(batch.tokens) > 5 >= max(made) / model.config.vocab_size
    np.testing.assert_allclose(chunked, whole, rtol=1e-6)


def test_a_sentence_longer_than_the_context_is_scored_whole():
    model = model_of("bert", context=8)
    found = evaluate(model, TEXTS)
    assert found.tokens["deu"][2] > 20
    assert np.isfinite(found.nats["deu"]).all()
    assert max(batch.tokens.shape[1] for batch in encode(model, TEXTS).batches) == 9


def test_word_masking_hides_more_and_so_costs_more_where_words_have_pieces():
    model = model_of("bert")
    each, word = (evaluate(model, TEXTS, masking=masking) for masking in ("token", "word"))
    np.testing.assert_allclose(each.nats["zho"], word.nats["zho"], rtol=1e-6)
    assert (each.nats["deu"] != word.nats["deu"]).all()
    np.testing.assert_array_equal(each.tokens["deu"], word.tokens["deu"])


def test_what_is_for_the_other_kind_of_model_is_refused():
    masked = model_of("bert")
    causal = replace(masked, config=CONFIG, params=random_params())
    with pytest.raises(InputError, match=r"`start` 'shift', the seed .*, needs a causal model"):
        encode(masked, TEXTS, start="shift")
    with pytest.raises(InputError, match="`prefix_tokens` needs a causal model"):
        encode(masked, TEXTS, prefix_tokens=2)
    with pytest.raises(InputError, match=r"`masking` is 'word', of masked models; .* family gpt2"):
        evaluate(causal, TEXTS, masking="word")
    encoded = encode(masked, TEXTS)
    with pytest.raises(InputError, match=r"`encoded` is for masked models; .* causal family gpt2"):
        evaluate_encoded(causal.params, encoded, CONFIG)
    with pytest.raises(InputError, match=r"`encoded` is for causal models; .* masked family bert"):
        evaluate_encoded(masked.params, replace(encoded, masked=False), masked.config)
    tokens = jnp.zeros((1, 3), jnp.int32)
    with pytest.raises(InputError, match="`token_nats` needs a causal model"):
        token_nats(masked.params, tokens, masked.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 2}, "`context` is 2; it must be at least 3"),
        ({"batch_tokens": 0}, "`batch_tokens` is 0; it must be at least 1"),
        ({"max_batch": 0}, "`max_batch` is 0; it must be at least 1"),
        ({"masking": "sentence"}, "`masking` is 'sentence'; allowed are token, word"),
        ({"vocab_size": 4}, "`tokenizer` has the token id 4; the model's ids end at 3"),
        ({"vocab_size": 9}, "deu line 11 of s has the token id .*; the model's ids end at 8"),
    ],
)
def test_bad_options(changes, message):
    options = {"context": 48} | changes
    with pytest.raises(InputError, match=message):
        encode_masked(TEXTS, TOKENIZERS["bert"](), **options)


def test_bad_texts_and_tokenizers():
    tokenizer = TOKENIZERS["bert"]()
    empty = Texts(sentences={"x": ("\u200b",)}, ids=(1,), source="s")
    with pytest.raises(InputError, match="x line 1 of s has no tokens, so that none is scored"):
        encode_masked(empty, tokenizer, context=48)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match="`tokenizer` has no mask token; a masked model's has"):
        encode_masked(TEXTS, tokenizer, context=48)
