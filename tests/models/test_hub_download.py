"""A download from a fake hub: what is said and shown, tried again, given up, and left behind."""

import io
import json
import re
import shutil
import sys
import time

import jax
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file

from jaxprotect import progress
from jaxprotect.errors import InputError
from jaxprotect.models import hub
from jaxprotect.models.families import FAMILIES
from tests.fake_hub import (
    CONVERSION,
    MAIN,
    contents,
    point_at,
    pull_request,
    repository,
    with_conversion,
)

WEIGHTS = "model.safetensors"


def is_whole(folder, tiny):
    """Whether a folder of the cache holds, byte for byte, what the hub has."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found == contents(tiny)


def refusal(name="owner/model", **options):
    """The one line that a model is refused with."""
    with pytest.raises(InputError) as caught:
        hub.resolve(name, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_sizes_are_said_before_a_download(tiny, fake_hub, capsys):
    fake_hub.repos["owner/model"] = repository(contents(tiny) | {"README.md": bytes(10**6)})
    hub.fetch_config("owner/model")
    assert capsys.readouterr().err == ""
    hub.resolve("owner/model")
    files = contents(tiny, without=("config.json",))
    size = sum(map(len, files.values())) / 1e6
    said = f"fetching {len(files)} files, {size:.1f} MB, into {constants.HF_HUB_CACHE}"
    assert capsys.readouterr().err == f"owner/model at {MAIN[:12]}: {said}\n"
    hub.resolve("owner/model")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("watched", [True, False])
def test_a_bar_is_for_terminals(tiny, fake_hub, monkeypatch, watched):
    fake_hub.repos["owner/model"] = repository(contents(tiny))
    said = io.StringIO()
    monkeypatch.setattr(said, "isatty", lambda: watched, raising=False)
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    hub.resolve("owner/model")
    bars = [part for part in said.getvalue().split("\r") if part.startswith("owner/model: ")]
    assert bool(bars) == watched
    assert not watched or re.search(r": +\d+%.*B/s\]", bars[-1])
    assert "Reconstruct" not in said.getvalue()


@pytest.mark.parametrize(
    "trouble",
    [
        {"fails": {"revision": 2}},
        {"fails": {"tree": 2, WEIGHTS: 2, "vocab.json": 1}},
        {"cuts": 2},
    ],
)
def test_what_recovers_is_tried_again(tiny, fake_hub, hurried, trouble):
    repo = fake_hub.repos["owner/model"] = repository(contents(tiny)) | trouble
    folder, commit = hub.resolve("owner/model")
    assert commit == MAIN
    assert is_whole(folder, tiny)
    left = [repo.get("cuts", 0), *repo.get("fails", {}).values()]
    assert not any(left)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"fails": {WEIGHTS: 10**6}}, "HTTP 503 Service Unavailable"),
        ({"cuts": 10**6}, "all answers end at the same byte, before the end of the file"),
        ({"stuck": 700}, "peer closed connection without sending complete"),
        ({"drips": 3}, "timed out.*HF_HUB_ETAG_TIMEOUT=0.2 and HF_HUB_DOWNLOAD_TIMEOUT=0.2 sec"),
    ],
)
def test_what_never_recovers_leaves_nothing_that_is_used(
    tiny, fake_hub, hurried, monkeypatch, trouble, why
):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    repo = fake_hub.repos["owner/model"] = repository(contents(tiny)) | trouble
    line = refusal()
    host = re.escape(constants.ENDPOINT)
    tried = rf"the hub cannot be reached \(\d+ requests in \d+ s, the last to {host}/owner/model/"
    assert re.search(rf"`owner/model` is not in the cache and {tried}.*{why}", line)
    assert f"only there: `config.json`, `merges.txt`, `vocab.json` of {MAIN[:12]}" in line
    with monkeypatch.context() as patched:
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE" in refusal()
    for name in trouble:
        del repo[name]
    assert is_whole(hub.resolve("owner/model")[0], tiny)


@pytest.mark.parametrize("kind", ["revision", "config.json", "discussions"])
def test_a_hub_that_is_silent_is_waited_for_so_long(tiny, fake_hub, hurried, kind):
    files = contents(tiny, without=(WEIGHTS,), pytorch_model__bin=b"pickle")
    fake_hub.repos["owner/model"] = repository(files) | {"silent": (kind,)}
    line = refusal()
    assert re.search(r"cannot be reached \(\d+ requests? in [01] s, the last to http", line)
    assert "give a slow hub more than HF_HUB_ETAG_TIMEOUT=0.2" in line
    there = "only there: `config.json`" if kind == "discussions" else "nothing of it is there"
    assert there in line


def test_a_silent_hub_serves_the_cache_and_says_so(tiny, fake_hub, hurried, capsys):
    repo = fake_hub.repos["owner/model"] = repository(contents(tiny))
    online = hub.resolve("owner/model")
    repo["silent"] = ("revision",)
    capsys.readouterr()
    assert hub.resolve("owner/model") == online
    said = f"owner/model: the hub cannot be reached; the cache has {MAIN[:12]}\n"
    assert capsys.readouterr().err == said


def test_a_hub_that_is_down_is_named(fake_hub, monkeypatch, hurried):
    point_at(monkeypatch, "http://127.0.0.1:9")
    line = refusal("owner/other")
    assert re.search(r"4 requests in 0 s, the last to http://127.0.0.1:9/api/models/owner/", line)
    assert "nothing of it is there; check the network and HF_ENDPOINT, or give a folder" in line


def test_what_is_no_hub_is_named(tiny, fake_hub):
    fake_hub.repos["owner/model"] = {"login": True}
    line = refusal()
    assert re.search(r"http://127\.\S+ does not answer as a hub does .*check the network", line)


def test_a_family_is_refused_before_its_weights_come(tiny, fake_hub):
    config = json.dumps({"model_type": "mamba"}).encode()
    fake_hub.repos["owner/model"] = repository(contents(tiny) | {"config.json": config})
    line = refusal()
    assert "models--owner--model" in line
    assert f"`model_type` is 'mamba'; allowed: {', '.join(FAMILIES)}" in line
    assert not any(path.endswith((WEIGHTS, "vocab.json")) for path in fake_hub.requests)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"tokenizer.model": b"sp", "tokenizer_config.json": b"{}"}, None),
        ({"sentencepiece.bpe.model": b"sp"}, None),
        ({"vocab.json": b"{}"}, None),
        ({}, "none of its files"),
    ],
)
def test_a_tokenizer_is_missed_before_the_weights_come(tiny, fake_hub, there, found):
    files = contents(tiny, without=("vocab.json", "merges.txt")) | there
    repo = fake_hub.repos["owner/model"] = repository(files)
    line = refusal()
    found = found or ", ".join(f"`{name}`" for name in sorted(there))
    said = f"`owner/model` at {MAIN[:12]} has no tokenizer that can be read: found {found}, allowed"
    assert line.startswith(f"{said} `tokenizer.json`, `vocab.json` with `merges.txt`, or ")
    assert ("AutoTokenizer.from_pretrained('owner/model')" in line) == (".model" in line)
    assert not any(path.endswith(WEIGHTS) for path in fake_hub.requests)
    # Nor do files of another commit help.
    fake_hub.repos["owner/model"] = converted = with_conversion(tiny, pull_request())
    converted["commits"][CONVERSION] = repo["commits"][MAIN]
    assert f"`owner/model` at {CONVERSION[:12]} has no tokenizer" in refusal()


def test_the_advice_on_pickles_is_enough(tiny, fake_hub, tmp_path):
    """What the two refusals say makes a folder that is read, with the same weights."""
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny, pickled, ignore=shutil.ignore_patterns(WEIGHTS))
    torch.save(load_file(tiny / WEIGHTS), pickled / "pytorch_model.bin")
    fake_hub.repos["owner/model"] = repository(contents(pickled))
    line = refusal()
    on_hub = re.findall(r"`(\w+\.from_pretrained\(.*?\)\.save_pretrained\(FOLDER\))`", line)
    assert len(on_hub) == 2
    with pytest.raises(InputError) as caught:
        hub.load_model(pickled)
    assert on_hub[1].replace("owner/model", str(pickled)) in str(caught.value)
    folder = tmp_path / "converted"
    for call in on_hub:
        local = call.replace("owner/model", str(pickled))
        eval(f"transformers.{local}", {"transformers": transformers, "FOLDER": folder})
    model, before = hub.load_model(folder), hub.load_model(tiny)
    assert model.tokenizer("hello").input_ids == before.tokenizer("hello").input_ids
    jax.tree.map(np.testing.assert_array_equal, model.params, before.params)


def test_weights_of_other_formats_are_all_named(tiny, fake_hub):
    other = ["model.onnx", "onnx/model.onnx", "rust_model.ot", "tf_model.h5", "x-Q4.gguf"]
    shards = [f"pytorch_model-{i:05}-of-00072.bin" for i in range(1, 73)]
    files = contents(tiny, without=(WEIGHTS,)) | dict.fromkeys([*other, *shards], b"x")
    fake_hub.repos["owner/model"] = repository(files)
    line = refusal()
    named = ", ".join(f"`{n}`" for n in [*other[:2], "pytorch_model-*-of-00072.bin", *other[2:]])
    assert f"found {named}, allowed `{WEIGHTS}`" in line
    assert "GPT2LMHeadModel.from_pretrained('owner/model').save_pretrained(FOLDER)" in line
    assert line.endswith("give the folder")
    del files["config.json"]
    assert f"has no config.json: found {named}; give a repository" in refusal()


@pytest.mark.parametrize("recovers", [True, False])
def test_what_xet_refuses_comes_over_plain_http(
    tiny, fake_hub, hurried, monkeypatch, tmp_path, capsys, recovers
):
    """The hub hands the weights over through Xet, whose storage refuses them."""
    pytest.importorskip("hf_xet")
    repo = fake_hub.repos["owner/model"] = repository(contents(tiny))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    send, answer = fake_hub.send, fake_hub.do_GET
    api = f"{constants.ENDPOINT}/api/models/owner/model/xet-read-token/{MAIN}"
    xet = {"X_Xet_Hash": "ab" * 32, "X_Xet_Refresh_Route": api}
    token = {"X_Xet_Cas_Url": f"{constants.ENDPOINT}/cas", "X_Xet_Access_Token": "token"}
    token |= {"X_Xet_Token_Expiration": str(int(time.time()) + 3600)}

    def send_through_xet(self, body, status=200, **headers):
        through = xet if self.path.endswith(WEIGHTS) and status == 200 else {}
        send(self, body, status, **headers, **through)

    def answer_as_xet(self):
        if "xet-read-token" in self.path:
            send(self, {}, **token)
        elif self.path.startswith("/cas"):
            repo["fails"] = {} if recovers else {WEIGHTS: 10**6}
            send(self, {}, 403)
        else:
            answer(self)

    monkeypatch.setattr(fake_hub, "send", send_through_xet)
    monkeypatch.setattr(fake_hub, "do_GET", answer_as_xet)
    if recovers:
        assert is_whole(hub.resolve("owner/model")[0], tiny)
    else:
        assert "HTTP 503 Service Unavailable" in refusal()
    assert "fails" in repo  # Xet was asked
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"owner/model: Xet fails \(.*403.*\); fetching without it", said[-1])
    assert constants.HF_HUB_DISABLE_XET is False
