"""A small hub over HTTP, with every way to refuse, and a tiny model for it."""

import json
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import numpy as np
import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jaxprotect.models import hub_requests
from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.hub_files import CONVERSION_BOT, CONVERSION_TITLE
from jaxprotect.models.transformer import parameter_shapes
from tests import hub_server

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


class _FakeHub(BaseHTTPRequestHandler):
    """Serves `repos`: id -> {"commits": {sha: {file: content}}, "refs": {name: sha}, ...}.

    A content is bytes or a path. What may go wrong: `status` instead of any answer, `login` a page
    instead; `silent`, the kinds of requests that are never answered; `fails`, kind -> answers
    with 503 before the first other one; `refuses`, headers of a 403 for files; and of the weights
    `cuts`, answers from the start that end in the middle, `stuck`, the byte after which all end,
    `drips`, bytes that come one by one before nothing more does.
    """

    repos: dict
    requests: list
    over: threading.Event

    def log_message(self, *args):
        pass

    def send(self, body, status=200, **headers):
        data = body if isinstance(body, bytes | Path) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(size_of(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(data, Path):
            with data.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, 2**20)
        else:
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
        if "login" in repo:
            return self.send(b"<html>Welcome to our network</html>")
        if kind in repo.get("silent", ()):
            return self.over.wait(60)
        if repo.get("fails", {}).get(kind, 0):
            repo["fails"][kind] -= 1
            return self.send({}, 503)
        if kind == "discussions":
            found = repo.get("discussions", [])
            return self.send({"count": len(found), "start": 0, "discussions": found})
        commit = repo["refs"].get(revision, revision)
        if commit not in repo["commits"]:
            return self.send({}, 404, X_Error_Code="RevisionNotFound")
        files = repo["commits"][commit]
        if kind == "tree":
            file = {"type": "file", "oid": "0"}
            return self.send([file | {"path": n, "size": size_of(files[n])} for n in files])
        if kind == "commits":
            entry = {"title": "", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
            return self.send([entry | {"id": sha} for sha in repo["history"][commit]])
        if kind == "revision":
            siblings = [{"rfilename": n, "size": size_of(files[n])} for n in files]
            return self.send({"id": name, "sha": commit, "siblings": siblings})
        if "refuses" in repo:
            return self.send({}, 403, **repo["refuses"])
        if kind not in files:
            return self.send({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[kind]
        name = data if isinstance(data, Path) else hash(data)
        headers = {"ETag": f'"{abs(hash(name)):x}"', "X_Repo_Commit": commit}
        if isinstance(data, Path):
            return self.send(data, **headers)
        if self.command == "GET" and kind == "model.safetensors":
            if repo.get("cuts", 0):
                repo["cuts"] -= 1
                return self.part(data, headers, to=len(data) // 2)
            if "stuck" in repo or "drips" in repo:
                return self.broken(data, headers, repo)
        if start := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            rest = int(start[1])
            span = f"bytes {rest}-{len(data) - 1}/{len(data)}"
            return self.send(data[rest:], 206, Content_Range=span, **headers)
        return self.send(data, **headers)

    def broken(self, data, headers, repo):
        """The file, resumed where it is asked to, but never whole."""
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(start[1]) if start else 0
        if "stuck" in repo:
            return self.part(data, headers, begin=begin, to=max(begin, repo["stuck"]))
        self.part(data, headers, begin=begin, to=begin)
        for byte in range(begin, max(begin, repo["drips"])):
            self.wfile.write(data[byte : byte + 1])
            self.wfile.flush()
            self.over.wait(0.01)
        return self.over.wait(60)

    def part(self, data, headers, *, to, begin=0):
        """Promise all from `begin` on, send what is before `to`, and hang up."""
        self.send_response(206 if begin else 200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin:to])
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


def size_of(content):
    return content.stat().st_size if isinstance(content, Path) else len(content)


def contents(folder, *, without=(), **extra):
    files = {f.name: f.read_bytes() for f in folder.iterdir() if f.name not in without}
    return files | {name.replace("__", "."): data for name, data in extra.items()}


def pull_request(number=1, author=CONVERSION_BOT, title=CONVERSION_TITLE, status="open"):
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
    over = threading.Event()
    handler = type("Handler", (_FakeHub,), {"repos": {}, "requests": [], "over": over})
    server = hub_server.start(handler)
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.reached(server, monkeypatch):
        yield handler
        over.set()


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


@pytest.fixture
def hurried(monkeypatch):
    """Half a second of patience, and no pauses to speak of."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    monkeypatch.setattr(hub_requests, "WAITS", (0.01, 0.02, 0.04))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
