"""The auditor as a process of its own: this room may not import it, so it asks through a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import IO, TypeVar

from pydantic import TypeAdapter

from data.errors import UserError
from data.records import Audit

REPOSITORY = Path(__file__).resolve().parents[1]
ONE, SEVERAL = TypeAdapter(Audit), TypeAdapter(list[Audit])
Answer = TypeVar("Answer")


class AuditorProcess:
    """`python -m audit.rescore`, started when first asked; one question at a time.

    Each pair is scored alone against the descriptions in the stage file `pool`; `together`, the pairs of a call are
    each other's pool and are flagged at the false-discovery `rate`, as the auditor does in this process.
    """

    def __init__(self, pool: Path, embedder: str, rate: float = 0.05, *, together: bool = False) -> None:
        self._command = [sys.executable, "-m", "audit.rescore", str(pool.resolve()), "--embedder", embedder,
                         "--rate", str(rate)]  # fmt: skip
        self._together = together
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()
        self._closed = False

    def score(
        self, queries: Sequence[str], descriptions: Sequence[str | None], origins: Sequence[str] | None = None
    ) -> list[Audit]:
        """One `Audit` per pair, in order. Raises `UserError` when the auditor does not answer."""
        origins = origins if origins is not None else ["author"] * len(queries)
        pairs = [
            {"query": query, "description": description or "", "origin": origin}
            for query, description, origin in zip(queries, descriptions, origins, strict=True)
        ]
        with self._lock:
            if self._together:
                return self._ask(pairs, SEVERAL) if pairs else []
            return [self._ask(pair, ONE) for pair in pairs]

    def _ask(self, asked: object, answer: TypeAdapter[Answer]) -> Answer:
        try:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None  # both are pipes
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            return answer.validate_json(_line(process.stdout))
        except (OSError, ValueError) as error:
            self._end()
            raise UserError("The auditor does not answer: what it says itself stands above.") from error

    def _running(self) -> subprocess.Popen[str]:
        """The process, past the line that says it is ready."""
        if self._process is None or self._process.poll() is not None:
            if self._closed:
                raise ValueError("the auditor has been closed")
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the program that asks; it ends this one
            )  # fmt: skip
            assert self._process.stdout is not None
            _line(self._process.stdout)
        return self._process

    def close(self) -> None:
        """End the process, if one was started, and start no other."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def _line(stream: IO[str]) -> str:
    """One line of an answer; an empty one means that the process has ended."""
    line = stream.readline()
    if not line:
        raise ValueError("the process has ended")
    return line
