"""Fixtures shared by the tests: small real things, made once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

# Tests run side by side: a torch that takes every core for itself makes all of them slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from data.embedders import Embedder, load_embedder


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    """The shipped embedder with its real weights."""
    return load_embedder("minilm")


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    """A server that remembers what it was asked for (`asked`); where pages are safe that is nothing."""

    class Remembers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Remembers) as running:
        running.asked = asked  # type: ignore[attr-defined]
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
