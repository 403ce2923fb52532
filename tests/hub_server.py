"""A local server in the place of the hub, for as long as a test runs."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from huggingface_hub import close_session


def start(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A running server on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@contextlib.contextmanager
def reached(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing stands between, no connection is left over; the server ends with the block."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    yield
    server.shutdown()
    server.server_close()
    close_session()
