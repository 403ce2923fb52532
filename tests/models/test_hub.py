"""Finding models in folders, in the package, and on a small fake hub, with every refusal."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import jax
import numpy as np
import pytest
from huggingface_hub import close_session, constants
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jaxprotect.errors import InputError
from jaxprotect.evaluation.evaluate import evaluate
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models import hub
from jaxprotect.models.census import _KNOWN, KNOWN_MODELS
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes

CONFIG = ModelConfig(
    family="gpt2",
    layers=2,
    width=8,
    heads=2,
    mlp_width=16,
    vocab_size=300,
    context=16,
)
MAIN, CONVERSION, OLDER = "a" * 40, "b" * 40, "c" * 40


def random_params():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), parameter_shapes(CONFIG)
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model folder whose tokenizer is only vocab.json and merges.txt."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model_folder(folder, random_params(), CONFIG)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello world, hello there"], trainer)
    tokenizer.model.save(str(folder))
    return folder


def copy(folder, target, *, without=(), **extra):
    target.mkdir()
    for file in folder.iterdir():
        if file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    for name, content in extra.items():
        (target / name.replace("__", ".")).write_text(content)
    return target


class _FakeHub(BaseHTTPRequestHandler):
    """Serves `repos`: id -> {"commits": {sha: {file: bytes}}, "refs": {name: sha}, ...}."""

    repos: dict
    requests: list

    def log_message(self, *args):
        pass

    def send(self, body, status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        self.requests.append(unquote(path))
        kind, name, revision = self.parse(path)
        repo = self.repos.get(name)
        if repo is None:
            return self.send({}, 401, X_Error_Code="RepoNotFound")
        if "status" in repo:
            return self.send({}, repo["status"])
        if kind == "discussions":
            found = repo.get("discussions", [])
            return self.send({"count": len(found), "start": 0, "discussions": found})
        commit = repo["refs"].get(revision, revision)
        if commit not in repo["commits"]:
            return self.send({}, 404, X_Error_Code="RevisionNotFound")
        files = repo["commits"][commit]
        if kind == "tree":
            file = {"type": "file", "oid": "0"}
            return self.send([file | {"path": n, "size": len(files[n])} for n in files])
        if kind == "commits":
            entry = {"title": "", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
            return self.send([entry | {"id": sha} for sha in repo["history"][commit]])
        if kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            return self.send({"id": name, "sha": commit, "siblings": siblings})
        if "refuses" in repo:
            return self.send({}, 403, **repo["refuses"])
        data = files[kind]
        etag = {"ETag": f'"{abs(hash(data)):x}"', "X_Repo_Commit": commit}
        if self.command == "GET" and kind == "model.safetensors" and repo.get("cuts", 0):
            repo["cuts"] -= 1
            return self.cut(data, etag)
        if start := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            rest = int(start[1])
            span = f"bytes {rest}-{len(data) - 1}/{len(data)}"
            return self.send(data[rest:], 206, Content_Range=span, **etag)
        return self.send(data, **etag)

    def cut(self, data, headers):
        """Promise the whole file, send half of it and hang up."""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    @staticmethod
    def parse(path):
        """What is asked for (a kind of listing, or a file's name), of which repository, where."""
        if file := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path):
            return file[3], file[1], unquote(file[2])
        kinds = "revision|tree|commits|discussions"
        if listing := re.fullmatch(rf"/api/models/(.+?)/({kinds})(?:/(.+))?", path):
            return listing[2], listing[1], unquote(listing[3] or "main")
        return "revision", path.removeprefix("/api/models/"), "main"


def contents(folder, *, without=(), **extra):
    files = {f.name: f.read_bytes() for f in folder.iterdir() if f.name not in without}
    return files | {name.replace("__", "."): data for name, data in extra.items()}


def pull_request(number=1, author=hub.CONVERSION_BOT, title=hub.CONVERSION_TITLE, status="open"):
    return {
        "title": title,
        "num": number,
        "author": {"name": author},
        "createdAt": "2024-01-01T00:00:00.000Z",
        "status": status,
        "repo": {"name": "owner/model", "type": "model"},
        "isPullRequest": True,
    }


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """Start the fake hub; returns its repositories, to be filled by the test."""
    handler = type("Handler", (_FakeHub,), {"repos": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    yield handler
    server.shutdown()
    server.server_close()
    close_session()


def point_at(monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def repository(files, **more):
    return {"commits": {MAIN: files}, "refs": {"main": MAIN}, "history": {MAIN: [MAIN]}} | more


def with_conversion(tiny, *requests, parent=MAIN):
    plain = contents(tiny, without=("model.safetensors",), pytorch_model__bin=b"pickle")
    return {
        "commits": {MAIN: plain, CONVERSION: contents(tiny)},
        "refs": {"main": MAIN, "refs/pr/1": CONVERSION},
        "history": {MAIN: [MAIN, OLDER], CONVERSION: [CONVERSION, parent, OLDER]},
        "discussions": list(requests),
    }


def test_a_folder_is_loaded_whole(tiny):
    model = hub.load_model(tiny)
    assert model.config == CONFIG
    assert (model.name, model.revision) == (str(tiny), None)
    assert len(model.sha256) == 64
    jax.tree.map(np.testing.assert_array_equal, model.params, random_params())


def test_a_tokenizer_of_only_vocabulary_and_merges_is_fast_and_exact(tiny):
    tokenizer = hub.load_model(str(tiny)).tokenizer
    assert tokenizer.is_fast
    for text in ("hello world", "שלום, 世界!"):
        tokens = tokenizer(text).input_ids
        assert tokens
        assert tokenizer.decode(tokens) == text


def test_fetch_config_needs_no_weights(tiny, tmp_path):
    bare = copy(tiny, tmp_path / "bare", without=("model.safetensors", "vocab.json", "merges.txt"))
    assert hub.fetch_config(bare) == CONFIG


def test_reference_is_the_folder_in_the_package(tiny, monkeypatch):
    assert hub.REFERENCE_FOLDER.parts[-3:] == ("jaxprotect", "reference", "model")
    monkeypatch.setattr(hub, "REFERENCE_FOLDER", tiny)
    assert hub.resolve("reference") == (tiny, None)
    with pytest.raises(InputError, match="revision"):
        hub.resolve("reference", revision="main")


def test_torch_is_not_needed(tiny):
    code = (
        "import sys; sys.modules['torch'] = None; "
        "from jaxprotect.models.hub import load_model; "
        f"print(load_model({str(tiny)!r}).config.layers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        ("./nowhere", "does not exist"),
        ("/nowhere/at/all", "does not exist"),
        ("a/b/c", "does not exist"),
        ("--bad name--", "neither a folder nor a hub id"),
    ],
)
def test_names_that_are_neither_folder_nor_id(name, message):
    with pytest.raises(InputError, match=message):
        hub.resolve(name)


def test_a_revision_of_a_folder_is_refused(tiny):
    with pytest.raises(InputError, match="only hub repositories have revisions"):
        hub.resolve(tiny, revision="main")


def test_a_file_is_refused(tiny):
    with pytest.raises(InputError, match="is a file"):
        hub.resolve(tiny / "config.json")


@pytest.mark.parametrize(
    ("without", "extra", "message"),
    [
        (("config.json",), {}, "config.json"),
        (("model.safetensors",), {}, "no weights"),
        (("vocab.json", "merges.txt"), {}, "no tokenizer"),
        (("merges.txt",), {}, "no tokenizer"),
        (("vocab.json",), {"vocab__json": "{"}, "tokenizer fails to load"),
        ((), {"tokenizer__json": '{"model": 3}'}, "tokenizer fails to load"),
    ],
)
def test_folders_that_are_not_whole(tiny, tmp_path, without, extra, message):
    folder = copy(tiny, tmp_path / "broken", without=without, **extra)
    with pytest.raises(InputError, match=message) as caught:
        hub.load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_larger_than_the_model_is_refused(tiny, tmp_path):
    config = json.loads((tiny / "config.json").read_text()) | {"vocab_size": 100}
    folder = copy(tiny, tmp_path / "small", without=("config.json",))
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"tokenizer has \d+ tokens, the model's embedding 100"):
        hub.load_model(folder)


def test_a_hub_model_is_fetched_at_a_pinned_commit_and_nothing_else(tiny, fake_hub):
    files = contents(tiny, pytorch_model__bin=b"pickle", README__md=b"hi", flax_model__msgpack=b"x")
    fake_hub.repos["owner/model"] = repository(files)
    model = hub.load_model("owner/model")
    assert (model.name, model.revision, model.config) == ("owner/model", MAIN, CONFIG)
    fetched = {path.split("/")[-1] for path in fake_hub.requests if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors", "vocab.json", "merges.txt"}


def test_revisions_are_branches_tags_and_commits(tiny, fake_hub):
    repo = repository(contents(tiny))
    repo["commits"][OLDER] = contents(tiny)
    repo["refs"]["v1"] = OLDER
    fake_hub.repos["owner/model"] = repo
    assert hub.resolve("owner/model", revision="v1")[1] == OLDER
    assert hub.resolve("owner/model", revision=OLDER)[1] == OLDER
    assert hub.resolve("owner/model")[1] == MAIN


def test_shards_come_with_their_index(tiny, fake_hub):
    shards = {
        "model.safetensors.index.json": b"{}",
        "model-00001-of-00002.safetensors": b"1",
        "model-00002-of-00002.safetensors": b"2",
        "model.fp16-00001-of-00002.safetensors": b"3",
    }
    plain = contents(tiny, without=("model.safetensors",))
    fake_hub.repos["owner/model"] = repository(plain | shards)
    folder, _ = hub.resolve("owner/model")
    kept = {path.name for path in folder.iterdir() if "safetensors" in path.name}
    assert kept == set(shards) - {"model.fp16-00001-of-00002.safetensors"}


def test_the_hubs_own_conversion_is_used_and_pinned(tiny, fake_hub):
    fake_hub.repos["owner/model"] = with_conversion(tiny, pull_request())
    model = hub.load_model("owner/model")
    assert model.revision == CONVERSION
    assert not any(path.endswith(".bin") for path in fake_hub.requests)


@pytest.mark.parametrize(
    ("request_", "parent"),
    [
        (pull_request(author="someone"), MAIN),
        (pull_request(title="Better weights"), MAIN),
        (pull_request(status="closed"), MAIN),
        (pull_request(), OLDER),
        (pull_request() | {"isPullRequest": False}, MAIN),
    ],
)
def test_other_pull_requests_are_not_trusted(tiny, fake_hub, request_, parent):
    fake_hub.repos["owner/model"] = with_conversion(tiny, request_, parent=parent)
    with pytest.raises(InputError, match=r"found `pytorch_model.bin`, allowed `model.safetensors`"):
        hub.resolve("owner/model")


def test_flax_comes_after_safetensors_and_conversions(tiny, fake_hub):
    plain = contents(tiny, without=("model.safetensors",), flax_model__msgpack=b"flax")
    fake_hub.repos["owner/model"] = repository(plain)
    folder, commit = hub.resolve("owner/model")
    assert commit == MAIN
    assert (folder / "flax_model.msgpack").is_file()
    converted = with_conversion(tiny, pull_request())
    converted["commits"][MAIN]["flax_model.msgpack"] = b"flax"
    fake_hub.repos["owner/converted"] = converted
    assert hub.resolve("owner/converted")[1] == CONVERSION


def test_only_the_config_is_fetched_for_the_architecture(tiny, fake_hub):
    plain = contents(tiny, without=("model.safetensors",), pytorch_model__bin=b"pickle")
    fake_hub.repos["owner/model"] = repository(plain)
    assert hub.fetch_config("owner/model") == CONFIG
    fetched = {path.split("/")[-1] for path in fake_hub.requests if "/resolve/" in path}
    assert fetched == {"config.json"}


def test_offline_serves_what_was_fetched(tiny, fake_hub, monkeypatch):
    fake_hub.repos["owner/model"] = repository(contents(tiny))
    fake_hub.repos["owner/converted"] = with_conversion(tiny, pull_request())
    online = hub.resolve("owner/model")
    hub.resolve("owner/converted")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    fake_hub.requests.clear()
    assert hub.resolve("owner/model") == online
    assert hub.resolve("owner/model", revision=MAIN) == online
    with pytest.raises(InputError, match=f"given as `revision`: `{CONVERSION}`"):
        hub.resolve("owner/converted")
    assert hub.resolve("owner/converted", revision=CONVERSION)[1] == CONVERSION
    with pytest.raises(InputError, match="not in the cache"):
        hub.resolve("owner/other")
    with pytest.raises(InputError, match="not in the cache"):
        hub.resolve("owner/other", revision=OLDER)
    assert not fake_hub.requests


def test_a_lost_network_serves_the_cache_too(tiny, fake_hub, monkeypatch):
    fake_hub.repos["owner/model"] = repository(contents(tiny))
    online = hub.resolve("owner/model")
    point_at(monkeypatch, "http://127.0.0.1:9")
    assert hub.resolve("owner/model") == online
    with pytest.raises(InputError, match="the hub cannot be reached"):
        hub.resolve("owner/other")


@pytest.mark.parametrize(
    ("repo", "revision", "message"),
    [
        ({}, None, r"neither a folder nor a model on the hub.*hf auth login"),
        (
            {"refuses": {"X_Error_Code": "GatedRepo"}},
            None,
            r"is gated: ask for access at http.*HF_TOKEN",
        ),
        ({"refuses": {}}, None, r"the hub refuses access; log in"),
        ({"status": 403}, None, r"the hub refuses access; log in"),
        ({"status": 418}, None, r"cannot be fetched"),
        ({"status": 503}, None, r"the hub cannot be reached"),
        ({"found": True}, "v9", r"`revision` 'v9' does not exist in `owner/model`"),
        ({"found": True}, "d" * 40, r"`revision` 'd+' does not exist in `owner/model`"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(tiny, fake_hub, repo, revision, message):
    if repo:
        fake_hub.repos["owner/model"] = repository(contents(tiny)) | repo
    with pytest.raises(InputError, match=message) as caught:
        hub.resolve("owner/model", revision=revision)
    assert "\n" not in str(caught.value)


def test_a_moved_branch_is_a_new_commit_and_the_old_one_stays(tiny, fake_hub):
    repo = repository(contents(tiny))
    fake_hub.repos["owner/model"] = repo
    before = hub.resolve("owner/model")
    repo["commits"][OLDER] = contents(tiny)
    repo["refs"]["main"] = OLDER
    after = hub.resolve("owner/model")
    assert (before[1], after[1]) == (MAIN, OLDER)
    assert hub.resolve("owner/model", revision=MAIN) == before


def test_an_answer_cut_short_is_fetched_again(tiny, fake_hub):
    fake_hub.repos["owner/model"] = repository(contents(tiny)) | {"cuts": 1}
    folder, _ = hub.resolve("owner/model")
    assert fake_hub.repos["owner/model"]["cuts"] == 0
    for file in contents(tiny):
        assert (folder / file).read_bytes() == (tiny / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_every_known_model_is_loaded_by_its_id_and_evaluated(name, tiny, fake_hub, tmp_path):
    """The real architecture at its real width: only depth and vocabulary are cut."""
    config = replace(_KNOWN[name], layers=1, vocab_size=300)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(config)
    )
    words = Tokenizer(models.BPE.from_file(str(tiny / "vocab.json"), str(tiny / "merges.txt")))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    settings = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | end).encode()
    save_model_folder(tmp_path / "model", params, config, dtype="bfloat16")
    files = contents(tmp_path / "model", tokenizer_config__json=settings)
    files["tokenizer.json"] = words.to_str().encode()
    fake_hub.repos[name] = repository(files)
    model = hub.load_model(name)
    assert (model.name, model.revision, model.config) == (name, MAIN, config)
    texts = Texts(sentences={"eng": ("hello world",)}, ids=(1,), source="test")
    nats = evaluate(model, texts).nats["eng"]
    assert nats.shape == (1,)
    assert nats[0] > 0
