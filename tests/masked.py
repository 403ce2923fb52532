"""Tiny masked models with tokenizers of their kinds, made in the test."""

import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from tests.tiny import random_params

LETTERS = [*string.ascii_lowercase, *"üßäöéèàçабвгдеיהוא。，的是"]


def wordpiece() -> PreTrainedTokenizerFast:
    """As mBERT's: pieces of a word begin with ##, punctuation and Chinese are words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "##ing", ".", ","]
    vocabulary = {piece: i for i, piece in enumerate([*special, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def sentencepiece() -> PreTrainedTokenizerFast:
    """As XLM-R's: a unigram model, words begin with a mark in the place of the space."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(letter, -3.0) for letter in LETTERS]
    pieces += [("▁", -2.0), ("▁the", -1.0), ("ing", -1.5), (".", -2.0), ("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


TOKENIZERS = {"bert": wordpiece, "xlm-roberta": sentencepiece}


def masked_config(family: str = "bert", **changes: object) -> ModelConfig:
    """A tiny architecture that fits the family's tokenizer."""
    xlm = family == "xlm-roberta"
    fields: dict = {"layers": 2, "width": 12, "heads": 3, "mlp_width": 20, "context": 48}
    return ModelConfig(
        family=family,
        masked=True,
        vocab_size=len(TOKENIZERS[family]()),
        position_offset=2 if xlm else 0,
        token_types=1 if xlm else 2,
        norm_after=True,
        embedding_norm=True,
        fused_qkv=False,
        activation="gelu",
        **(fields | changes),
    )


def save_masked_model(folder: Path, family: str = "bert", **changes: object) -> str:
    """A random checkpoint with its tokenizer."""
    config = masked_config(family, **changes)
    save_model_folder(folder, random_params(config), config, tokenizer=TOKENIZERS[family]())
    return str(folder)
