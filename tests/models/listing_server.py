"""A small hub that lists models page by page, and does what it is told instead."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests import hub_server

MODELS: list[dict[str, Any]] = [
    {
        "id": f"owner/model-{number}",
        "createdAt": f"2024-01-{number + 1:02}T00:00:00.000Z",
        "pipeline_tag": "text-generation" if number < 5 else "fill-mask",
        "gated": "auto" if number == 0 else False,
        "tags": tags,
        "safetensors": {"total": total} if total else None,
    }
    for number, (tags, total) in enumerate(
        [
            (["en", "de", "pytorch"], 5 * 10**7),
            (["multilingual"], 2 * 10**8),
            (["en", "moe"], 3 * 10**8),
            (["fr", "zh"], 7 * 10**9),
            (["fr", "zh", "ar"], None),
            (["en"], 10**8),
            ([], None),
        ]
    )
]
"""Seven models; five generate text, four of them in many languages, one of those open and small."""

Answer = tuple[int, dict[str, str], bytes]


class ListingHub(BaseHTTPRequestHandler):
    """Serves `MODELS`, the newest first, `page` at a time; `instead` has what to say before."""

    page: int
    instead: list[Answer | None]
    asked: list[str]
    headers_of_pages: dict[str, str]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """A page, or the next of `instead`; None of it is a page."""
        address = urlsplit(self.path)
        if address.path != "/api/models":  # what huggingface_hub asks of its own accord
            return self.send_error(404)
        self.asked.append(address.query)
        special = self.instead.pop(0) if self.instead else None
        status, headers, body = special or self._page(parse_qs(address.query))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, query: dict[str, list[str]]) -> Answer:
        assert query["sort"] == ["createdAt"]
        wanted = query.get("pipeline_tag")
        models = [of for of in reversed(MODELS) if wanted in (None, [of["pipeline_tag"]])]
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(self.page, int(query["limit"][0]))
        fields = ["id", *query["expand"]]
        body = json.dumps([{name: of[name] for name in fields} for of in models[start:end]])
        headers = dict(self.headers_of_pages)
        if end < len(models):
            following = urlencode({**query, "cursor": [str(end)]}, doseq=True)
            # A mirror's pages name the hub itself, which is not to be asked.
            headers["Link"] = f'<https://other.invalid/api/models?{following}>; rel="next"'
        return 200, headers, body.encode()


def start(page: int) -> tuple[ThreadingHTTPServer, type[ListingHub]]:
    """A running server, and the class that tells what it was asked."""
    told = {"page": page, "instead": [], "asked": [], "headers_of_pages": {}}
    handler = type("Handler", (ListingHub,), told)
    return hub_server.start(handler), handler
