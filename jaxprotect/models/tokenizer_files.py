"""The tokenizer of a model folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from jaxprotect.errors import InputError, listed, reason_of
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.config_files import write_config
from jaxprotect.models.folders import file_in
from jaxprotect.models.json_files import read_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
SENTENCEPIECE = ".model"
"""How the names of sentencepiece's files end."""

_COMPLETE = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"vocab.txt"})
"""Files that are a tokenizer together."""


def lacks_tokenizer(names: Iterable[str]) -> str:
    """What a folder or repository without a tokenizer has of one, and what is allowed.

    Args:
        names: all its files.

    Returns:
        Words for a message; nothing if there is a tokenizer.
    """
    names = set(names)
    if any(files <= names for files in _COMPLETE):
        return ""
    # Those of sentencepiece are not read, but named, as they look like a tokenizer to their owner.
    like_one = (name for name in names if name in TOKENIZER_FILES or name.endswith(SENTENCEPIECE))
    return (
        f"found {listed(sorted(like_one)) or 'none of its files'},"
        " allowed `tokenizer.json`, `vocab.json` with `merges.txt`, or `vocab.txt`"
    )


def read_tokenizer(folder: Path, config: ModelConfig, *, packed: bool = False) -> Any:
    """The tokenizer of a model folder.

    Args:
        folder: a Hugging Face folder, or a packed one.
        config: the architecture that its tokens must fit.
        packed: the folder's own config is not one that `transformers` knows.

    Returns:
        A `transformers` tokenizer.

    Raises:
        InputError: no tokenizer, a damaged one, or one with more tokens than the model.
    """
    # Without its files transformers makes an empty tokenizer, which turns every text into nothing.
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if lacks := lacks_tokenizer(names):
        raise InputError(f"`{folder}` has no tokenizer: {lacks}")
    try:
        _check_files(folder, names & set(TOKENIZER_FILES))
    except InputError as error:
        raise InputError(f"`{folder}`: the tokenizer fails to load: {error}") from None
    known = {"config": AutoConfig.for_model(**write_config(config))} if packed else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **known)
    except Exception as error:  # transformers and tokenizers raise whatever the files provoke
        raise InputError(f"`{folder}`: the tokenizer fails to load: {reason_of(error)}") from None
    if not 0 < tokenizer.vocab_size <= config.vocab_size:
        raise InputError(
            f"`{folder}`: the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding "
            f"{config.vocab_size}; the tokenizer must have at least 1 and no more than the model"
        )
    return tokenizer


def _check_files(folder: Path, present: set[str]) -> None:
    """Refuse what would lead `transformers`, which opens more than these files, elsewhere."""
    for entry in folder.iterdir():
        file_in(folder, entry.name)
    read = {name: read_json(folder / name) for name in sorted(present) if name.endswith(".json")}
    others = read.get("tokenizer_config.json", {}).get("fast_tokenizer_files", [])
    for name in others if isinstance(others, list) else []:
        file_in(folder, str(name))
