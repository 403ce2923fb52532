"""Every token is scored exactly once, and no batch size, order or padding changes the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jaxprotect.errors import InputError
from jaxprotect.evaluation.encoding import Encoded, encode_texts
from jaxprotect.evaluation.loss import sentence_nats, token_nats
from jaxprotect.evaluation.texts import Texts
from jaxprotect.evaluation.windows import rolling_windows
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes

BOS, EOS = 256, 257


def byte_tokenizer(
    *, bos: bool = True, eos: bool = True, adds_bos: bool = False
) -> PreTrainedTokenizerFast:
    """One token per UTF-8 byte, ids in the alphabet's order, then BOS and EOS."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"<s>": BOS, "</s>": EOS}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", BOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if bos else None,
        eos_token="</s>" if eos else None,
        model_max_length=20,
    )


def make_texts(**sentences: tuple[str, ...]) -> Texts:
    count = len(next(iter(sentences.values())))
    return Texts(sentences=sentences, ids=tuple(range(11, 11 + count)), source="s")


LETTERS = make_texts(
    a=("ok", "The quick brown fox jumps over the lazy dog, twice.", "short one"),
    b=("д", "Быстрая лиса прыгает через ленивую собаку, и не раз, а два.", "短い文です"),
)


def rows_of(encoded: Encoded) -> list[tuple[str, int, list[int], list[bool]]]:
    return [
        (encoded.languages[lang], sentence, tokens.tolist(), scored.tolist())
        for batch in encoded.batches
        for lang, sentence, tokens, scored in zip(
            batch.language, batch.sentence, batch.tokens, batch.scored, strict=True
        )
        if lang >= 0
    ]


# Windows


def test_ten_tokens_in_windows_of_four() -> None:
    windows = rolling_windows(list(range(10)), prefix=-1, max_length=4)
    assert windows == [
        ([-1], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]


def test_windows_with_more_context() -> None:
    windows = rolling_windows(list(range(9)), prefix=-1, max_length=3, context=2)
    contexts = [[-1], [1, 2], [3, 4], [5, 6]]
    assert windows == list(zip(contexts, [[0, 1, 2], [3, 4], [5, 6], [7, 8]], strict=True))


def test_an_empty_text_has_no_window() -> None:
    assert rolling_windows([], prefix=0, max_length=4) == []


@given(count=st.integers(1, 80), max_length=st.integers(1, 20), data=st.data())
def test_every_token_is_predicted_once_in_order_from_what_precedes_it(
    count: int, max_length: int, data: st.DataObject
) -> None:
    context = data.draw(st.integers(1, max_length))
    tokens = list(range(100, 100 + count))
    windows = rolling_windows(tokens, prefix=7, max_length=max_length, context=context)
    assert [token for _, targets in windows for token in targets] == tokens

    text, position = [7, *tokens], 1
    for i, (before, targets) in enumerate(windows):
        assert before == text[position - len(before) : position]
        inputs = len(before) + len(targets) - 1
        assert inputs == (min(count, max_length) if i == 0 else max_length)
        if i > 0:
            assert len(before) >= context
            assert len(before) == context or i == len(windows) - 1
        position += len(targets)
    assert windows[0][0] == [7]


@pytest.mark.parametrize(("max_length", "context"), [(0, 1), (4, 0), (4, 5)])
def test_impossible_windows_are_refused(max_length: int, context: int) -> None:
    with pytest.raises(InputError, match=r"`max_length`|`context`"):
        rolling_windows([1, 2], prefix=0, max_length=max_length, context=context)


# Rows


def test_prefix_scores_every_token_of_the_text_after_the_start_token() -> None:
    texts = make_texts(a=("hé",))
    plain = byte_tokenizer()("hé")["input_ids"]
    assert len(plain) == 3
    for tokenizer in (byte_tokenizer(), byte_tokenizer(adds_bos=True)):
        encoded = encode_texts(texts, tokenizer, context=16)
        ((_, _, tokens, scored),) = rows_of(encoded)
        assert tokens == [BOS, *plain] + [0] * 13
        assert scored == [False, True, True, True] + [False] * 13
        assert encoded.tokens["a"].tolist() == [3]


def test_prefix_falls_back_on_the_end_token() -> None:
    encoded = encode_texts(make_texts(a=("hi",)), byte_tokenizer(bos=False), context=16)
    assert rows_of(encoded)[0][2][0] == EOS


def test_shift_takes_the_tokens_as_they_come_and_scores_all_but_the_first() -> None:
    texts = make_texts(a=("abc",))
    plain = byte_tokenizer()("abc")["input_ids"]
    bare = encode_texts(texts, byte_tokenizer(bos=False, eos=False), context=16, start="shift")
    ((_, _, tokens, scored),) = rows_of(bare)
    assert tokens[:3] == plain
    assert scored[:4] == [False, True, True, False]
    assert bare.tokens["a"].tolist() == [2]
    opt_like = encode_texts(texts, byte_tokenizer(adds_bos=True), context=16, start="shift")
    assert rows_of(opt_like)[0][2][:4] == [BOS, *plain]
    assert opt_like.tokens["a"].tolist() == [3]


@pytest.mark.parametrize("start", ["prefix", "shift"])
@pytest.mark.parametrize("context", [1, 2, 7, 16, 40, 500])
def test_each_token_of_each_sentence_is_scored_once(start: str, context: int) -> None:
    encoded = encode_texts(LETTERS, byte_tokenizer(), context=context, start=start, batch_tokens=70)
    scored: dict[tuple[str, int], list[int]] = {}
    for batch in encoded.batches:
        assert batch.tokens.dtype == np.int32
        assert batch.tokens.shape[1] <= context + 1
        assert not batch.scored[:, 0].any()
        assert not batch.scored[batch.language < 0].any()
        assert np.array_equal(batch.language < 0, batch.sentence < 0)
    # Windows of one sentence lie in several batches; their last tokens put them in order.
    for language, sentence, tokens, mask in rows_of(encoded):
        targets = [token for token, is_scored in zip(tokens, mask, strict=True) if is_scored]
        scored[language, sentence] = sorted(scored.get((language, sentence), []) + targets)
    skipped = 1 if start == "shift" else 0
    for language, sentences in LETTERS.sentences.items():
        for i, sentence in enumerate(sentences):
            tokens = byte_tokenizer()(sentence)["input_ids"][skipped:]
            assert scored[language, i] == sorted(tokens)
            assert encoded.tokens[language][i] == len(tokens)


def test_counts_are_bytes_and_code_points() -> None:
    encoded = encode_texts(make_texts(a=("né e\u0301", "😀")), byte_tokenizer(), context=16)
    assert encoded.bytes["a"].tolist() == [7, 4]
    assert encoded.characters["a"].tolist() == [5, 1]
    assert encoded.ids == (11, 12)
    assert encoded.languages == ("a",)


# Batches


def test_lengths_are_few_and_batches_of_a_length_share_one_shape() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 700, size=300)
    texts = make_texts(a=tuple("x" * int(length) for length in lengths))
    encoded = encode_texts(texts, byte_tokenizer(), context=600, batch_tokens=4096)
    by_length: dict[int, set[int]] = {}
    for batch in encoded.batches:
        size, length = batch.tokens.shape
        by_length.setdefault(length - 1, set()).add(size)
        assert size * length <= 4096
    assert set(by_length) <= {*range(16, 129, 16), 192, 256, 384, 512, 600}
    assert all(len(sizes) == 1 for sizes in by_length.values())
    assert len(encoded.shapes) == len(by_length) > 4
    assert encoded.padding < 0.25


def test_few_short_rows_join_a_longer_length_unless_it_is_much_longer() -> None:
    def lengths(*sentences: str) -> list[int]:
        texts = make_texts(a=sentences)
        encoded = encode_texts(texts, byte_tokenizer(), context=128, batch_tokens=1000)
        assert sum(int(batch.scored.sum()) for batch in encoded.batches) == sum(map(len, sentences))
        return sorted(length - 1 for _, length in encoded.shapes)

    assert lengths("x" * 10, *["x" * 20] * 40) == [32]
    assert lengths(*["x" * 10] * 30, *["x" * 20] * 40) == [16, 32]
    assert lengths("x" * 10, *["x" * 100] * 40) == [16, 112]
    assert lengths("x" * 10, "x" * 20, "x" * 40) == [48]


def test_empty_rows_are_fewer_than_batches_of_a_length() -> None:
    texts = make_texts(a=tuple("x" * 10 for _ in range(11)))
    encoded = encode_texts(texts, byte_tokenizer(), context=16, max_batch=4)
    assert [batch.tokens.shape for batch in encoded.batches] == [(4, 17)] * 3
    assert sum(int((batch.language < 0).sum()) for batch in encoded.batches) == 1
    # 11 rows of 10 needed inputs in 12 rows of 16.
    assert encoded.padding == pytest.approx(1 - 110 / 192)


def test_full_rows_have_no_padding() -> None:
    encoded = encode_texts(make_texts(a=("x" * 32, "y" * 16)), byte_tokenizer(), context=16)
    assert encoded.padding == 0.0


def test_max_batch_and_batch_tokens_limit_a_batch() -> None:
    texts = make_texts(a=tuple("x" * 10 for _ in range(40)))
    tokenizer = byte_tokenizer()
    for batch_tokens, max_batch, size in [(17 * 5, None, 5), (10_000, 4, 4), (1, None, 1)]:
        encoded = encode_texts(
            texts, tokenizer, context=16, batch_tokens=batch_tokens, max_batch=max_batch
        )
        assert encoded.shapes == ((size, 17),)


# The law

CONFIG = ModelConfig(
    family="gpt2", layers=2, width=16, heads=2, mlp_width=32, vocab_size=258, context=24
)
SCORE = jax.jit(sentence_nats, static_argnums=3)
TOKEN_NATS = jax.jit(token_nats, static_argnums=2)


def random_params(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(rng.normal(0.0, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, parameter_shapes(CONFIG))


def nats(encoded: Encoded, params: dict) -> dict[str, np.ndarray]:
    batches = encoded.batches
    return encoded.by_sentence([SCORE(params, b.tokens, b.scored, CONFIG) for b in batches])


@pytest.mark.parametrize("start", ["prefix", "shift"])
def test_nats_do_not_depend_on_batches_order_or_padding(start: str) -> None:
    params = random_params(0)
    tokenizer = byte_tokenizer(adds_bos=True)
    wide, narrow = (
        encode_texts(LETTERS, tokenizer, context=24, start=start, batch_tokens=size)
        for size in (4096, 64)
    )
    assert wide.shapes != narrow.shapes
    expected = nats(wide, params)
    found = nats(narrow, params)
    turned = make_texts(**{name: s[::-1] for name, s in LETTERS.sentences.items()})
    reversed_ = nats(encode_texts(turned, tokenizer, context=24, start=start), params)
    for language in LETTERS.languages:
        assert expected[language].dtype == np.float64
        np.testing.assert_allclose(found[language], expected[language], rtol=1e-5)
        np.testing.assert_allclose(reversed_[language][::-1], expected[language], rtol=1e-5)


def test_nats_are_those_of_each_window_alone() -> None:
    params = random_params(1)
    tokenizer = byte_tokenizer(adds_bos=True)
    expected = nats(encode_texts(LETTERS, tokenizer, context=24), params)
    for i in (1, 2):
        tokens = tokenizer(LETTERS.sentences["a"][i])["input_ids"]
        total = 0.0
        for before, targets in rolling_windows(tokens[1:], BOS, 24):
            row = jnp.array([before + targets])
            total += float(TOKEN_NATS(params, row, CONFIG)[0, len(before) - 1 :].sum())
        np.testing.assert_allclose(expected["a"][i], total, rtol=1e-5)


def test_by_sentence_sums_windows_and_ignores_empty_rows() -> None:
    texts = make_texts(a=("x" * 40, "y", "z" * 3), b=("x", "y" * 3, "z" * 17))
    encoded = encode_texts(texts, byte_tokenizer(), context=16, max_batch=5)
    assert any((batch.language < 0).any() for batch in encoded.batches)
    ones = encoded.by_sentence([np.ones(len(b.language), np.float32) for b in encoded.batches])
    assert {name: values.tolist() for name, values in ones.items()} == {
        "a": [3.0, 1.0, 1.0],
        "b": [1.0, 1.0, 2.0],
    }
    with pytest.raises(InputError, match="`values` has 0 batches"):
        encoded.by_sentence([])


# Refusals


def test_a_sentence_without_a_scored_token_is_named() -> None:
    texts = make_texts(deu_Latn=("ja", "nein"), fra_Latn=("oui", "n"))
    with pytest.raises(InputError, match="fra_Latn line 12 of s has 1 tokens"):
        encode_texts(texts, byte_tokenizer(), context=16, start="shift")
    encode_texts(texts, byte_tokenizer(adds_bos=True), context=16, start="shift")
    with pytest.raises(InputError, match="a line 11 of s has 0 tokens"):
        encode_texts(make_texts(a=("",)), byte_tokenizer(), context=16)


def test_a_tokenizer_without_a_start_token_is_refused() -> None:
    bare = byte_tokenizer(bos=False, eos=False)
    with pytest.raises(InputError, match="neither a BOS nor an EOS"):
        encode_texts(LETTERS, bare, context=16)


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    texts = make_texts(a=("ok", "ok</s>"))
    encode_texts(texts, byte_tokenizer(), context=16, vocab_size=258)
    with pytest.raises(InputError, match=r"a line 12 of s has the token id 257; .* end at 256"):
        encode_texts(texts, byte_tokenizer(), context=16, vocab_size=257)
    with pytest.raises(InputError, match="token id 256"):
        encode_texts(texts, byte_tokenizer(), context=16, vocab_size=256)


@pytest.mark.parametrize(
    "options",
    [{"context": 0}, {"batch_tokens": 0}, {"max_batch": 0}, {"max_batch": -1}],
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=f"`{name}` is"):
        encode_texts(LETTERS, byte_tokenizer(), **({"context": 16} | options))  # pyright: ignore[reportArgumentType]


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(InputError, match="`start` is 'bos'; allowed are prefix, shift"):
        encode_texts(LETTERS, byte_tokenizer(), context=16, start="bos")
