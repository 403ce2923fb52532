"""Finding models in folders, in the package, and on a small fake hub, with every refusal."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from huggingface_hub import close_session, constants
from safetensors.numpy import load_file, save

from jaxprotect.errors import InputError
from jaxprotect.models import hub
from tests.fake_hub import (
    CONFIG,
    CONVERSION,
    MAIN,
    OLDER,
    contents,
    point_at,
    pull_request,
    random_params,
    repository,
    with_conversion,
)


def copy(folder, target, *, without=(), **extra):
    target.mkdir()
    for file in folder.iterdir():
        if file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    for name, content in extra.items():
        (target / name.replace("__", ".")).write_text(content)
    return target


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


def test_shards_may_have_another_name(tiny, fake_hub, monkeypatch):
    tensors = load_file(tiny / "model.safetensors")
    shards = [f"pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: shards[i % 2] for i, name in enumerate(tensors)}
    files = {"model.safetensors.index.json": json.dumps({"weight_map": where}).encode()}
    for shard in shards:
        files[shard] = save({n: tensor for n, tensor in tensors.items() if where[n] == shard})
    plain = contents(tiny, without=("model.safetensors",))
    fake_hub.repos["owner/model"] = repository(plain | files)
    model = hub.load_model("owner/model")
    jax.tree.map(np.testing.assert_array_equal, model.params, random_params())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    folder, _ = hub.resolve("owner/model")
    for shard in shards:  # neither a part of them nor none is all of them
        (folder / shard).unlink()
        with pytest.raises(InputError, match="only there"):
            hub.resolve("owner/model")


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


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "config.json"])
def test_a_file_that_was_deleted_from_the_cache_is_fetched_again(tiny, fake_hub, monkeypatch, name):
    """Of the file the cache keeps a link to where it was."""
    fake_hub.repos["owner/model"] = repository(contents(tiny))
    folder, _ = hub.resolve("owner/model")
    blob = (folder / name).resolve()
    assert blob.parent.name == "blobs"
    blob.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        close_session()
        with pytest.raises(InputError, match="HF_HUB_OFFLINE") as caught:
            hub.resolve("owner/model")
        there = ", ".join(f"`{file}`" for file in sorted(set(contents(tiny)) - {name}))
        assert f"only there: {there} of {MAIN[:12]}" in str(caught.value)
    close_session()
    assert hub.resolve("owner/model")[0] == folder
    assert (folder / name).read_bytes() == (tiny / name).read_bytes()


def test_a_lost_network_serves_the_cache_too(tiny, fake_hub, monkeypatch, hurried):
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
def test_refusals_of_the_hub_say_what_to_do(tiny, fake_hub, hurried, repo, revision, message):
    if repo:
        fake_hub.repos["owner/model"] = repository(contents(tiny)) | repo
    with pytest.raises(InputError, match=message) as caught:
        hub.resolve("owner/model", revision=revision)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 401},
        {"status": 403},
        None,  # no longer there
    ],
)
def test_a_refusal_names_what_the_cache_has(tiny, fake_hub, monkeypatch, refusal):
    fake_hub.repos["owner/model"] = repository(contents(tiny))
    online = hub.resolve("owner/model")
    if refusal:
        fake_hub.repos["owner/model"] |= refusal
    else:
        del fake_hub.repos["owner/model"]
    with pytest.raises(InputError) as caught:
        hub.resolve("owner/model")
    said = f"; whole in the cache, with HF_HUB_OFFLINE=1 and as `revision`: `{MAIN}`"
    assert str(caught.value).endswith(said)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert hub.resolve("owner/model", revision=MAIN) == online


def test_a_moved_branch_is_a_new_commit_and_the_old_one_stays(tiny, fake_hub):
    repo = repository(contents(tiny))
    fake_hub.repos["owner/model"] = repo
    before = hub.resolve("owner/model")
    repo["commits"][OLDER] = contents(tiny)
    repo["refs"]["main"] = OLDER
    after = hub.resolve("owner/model")
    assert (before[1], after[1]) == (MAIN, OLDER)
    assert hub.resolve("owner/model", revision=MAIN) == before


def test_an_answer_cut_short_is_fetched_again(tiny, fake_hub, hurried):
    fake_hub.repos["owner/model"] = repository(contents(tiny)) | {"cuts": 1}
    folder, _ = hub.resolve("owner/model")
    assert fake_hub.repos["owner/model"]["cuts"] == 0
    for file in contents(tiny):
        assert (folder / file).read_bytes() == (tiny / file).read_bytes()
