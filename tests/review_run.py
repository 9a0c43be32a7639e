"""A small run under review: its desk with a scorer whose figures are known, and the page as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from data.records import Audit, Pair
from filter.review_desk import Desk
from tests.small_run import make_run

REPOSITORY = Path(__file__).resolve().parents[1]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Scorer:
    """Scores by a word, so that a test knows the score; counts what it is asked."""

    asked = 0

    def score(self, queries: object, descriptions: object, origins: object = None) -> list[Audit]:
        assert isinstance(queries, list)
        self.asked += len(queries)
        return [Audit(leakage=0.9 if "gun" in query else 0.1) for query in queries]


class Server(NamedTuple):
    process: subprocess.Popen[str]
    address: str
    port: int
    token: str


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[Server]:
    """`filter.review` as a user starts it, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "filter.review", str(folder), "--port", str(port), "--reviewer", "Ada"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline().strip()
        asked = urlsplit(address)
        yield Server(process, address, asked.port or 0, parse_qs(asked.query)["token"][0])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def desk_of(folder: Path) -> tuple[Desk, list[Pair]]:
    kept = make_run(folder)
    return Desk(folder, Scorer()), kept
