"""The Batch API of one server: files of requests go up, batches are made of them, files of results come down."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from data.errors import UserError
from data.llm.batch_results import Outcome, read_results
from data.llm.connection import Answer, Connection, Upload
from data.llm.faults import Fault, discreet

TRIES = 5  # of one call to the server
NOT_THERE = (404, 405, 501)
ENDPOINT = "/v1/chat/completions"
SECONDS_TO_SAY = 10.0  # whether there is a Batch API

Reply = TypeVar("Reply")


class Absent(UserError):
    """The server knows nothing under a path."""


class BatchServer:
    """What one account is asked about files and batches; `longest_wait` seconds at most between two tries."""

    def __init__(
        self, model: str, base_url: str | None, key_variable: str, timeout_seconds: float, longest_wait: float
    ) -> None:
        self._model = model
        self._server = Connection(base_url, key_variable, timeout_seconds)
        self._longest_wait = longest_wait
        self.url = self._server.url

    async def upload(self, requests: bytes) -> str:
        """The file of these requests."""
        made = await self._ask("POST", "/files", partial(_holding, "id"), Upload("batch", requests))
        return str(made["id"])

    async def make(self, file: str) -> str | Fault:
        """The batch of a file. Asked for once: a fault may mean that it was made and only the answer lost."""
        wanted = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"}
        content = self._content(await self._server.send("POST", "/batches", json.dumps(wanted).encode()))
        made = content if isinstance(content, Fault) else _holding("id", content)
        return made if isinstance(made, Fault) else str(made["id"])

    async def batches(self) -> AsyncIterator[dict[str, Any]]:
        """The batches of the account, page by page."""
        path, last = "/batches?limit=100", ""
        while True:
            page = await self._ask(
                "GET", path + (f"&after={last}" if last else ""), partial(_holding, "data")
            )
            for batch in page["data"] or ():
                yield batch
            if not page.get("has_more") or page.get("last_id") in (None, last):
                return
            last = page["last_id"]

    async def state(self, batch: str) -> dict[str, Any]:
        """How far a batch is. Raises `UserError` for one that this account does not have."""
        try:
            return await self._ask("GET", f"/batches/{batch}", partial(_holding, "status"))
        except Absent as error:
            raise UserError(
                f"The server at {self._server.address} does not know the batch {batch} that was submitted: set "
                "the key of the account that did, or leave out --batch to ask for its answers anew."
            ) from error

    async def results(self, batch: str, state: Mapping[str, Any]) -> dict[str, Outcome]:
        """By key, what the requests of a batch that has ended came to, without those it left undone."""
        outcomes: dict[str, Outcome] = {}
        for kind in ("output_file_id", "error_file_id"):
            if state.get(kind):
                content = await self._kept(batch, state[kind])
                outcomes |= read_results(content, lambda answer: self._server.fault(answer, self._model))
        return outcomes

    async def _kept(self, batch: str, file: str) -> bytes:
        """The content of a result file; nothing where the server has deleted it, as they do after some weeks."""
        try:
            return await self._ask("GET", f"/files/{file}/content", bytes)
        except Absent:
            print(f"batch {batch}: results are gone, what lacks an answer is asked again", file=sys.stderr)
            return b""

    async def _ask(
        self, method: str, path: str, read: Callable[[bytes], Reply | Fault], body: Upload | None = None
    ) -> Reply:
        """What `read` makes of an answer. What stands is noted, so a server that stays away only ends this process.

        Not for what must not be done twice: a file that was uploaded twice costs nothing, a batch does.
        """
        for tried in range(TRIES):
            content = self._content(await self._server.send(method, path, body))
            reply = content if isinstance(content, Fault) else read(content)
            if not isinstance(reply, Fault):
                return reply
            fault = reply
            if not fault.passing:
                break
            await self.pause(tried)
        raise self.stuck(fault)

    def _content(self, answer: Answer | Fault) -> bytes | Fault:
        """What a successful answer holds, or what went wrong. Raises `UserError` for what stops the run."""
        if isinstance(answer, Fault):
            return answer
        if answer.status in NOT_THERE:
            raise Absent(f"The server at {self._server.address} has no Batch API: leave out --batch.")
        return answer.content if answer.status == 200 else self._server.fault(answer, self._model)

    async def pause(self, tried: int) -> None:
        """Wait before the next try, longer each time."""
        await asyncio.sleep(min(self._longest_wait, 2.0**tried))

    def stuck(self, fault: Fault) -> UserError:
        """The error for a server that cannot be talked to."""
        return UserError(
            f"The Batch API at {self._server.address} does not work ({fault.detail}): what was submitted is "
            "noted, run the same command again to collect it."
        )

    async def close(self) -> None:
        await self._server.close()


def _holding(wanted: str, content: bytes) -> dict[str, Any] | Fault:
    """A JSON reply that has what is wanted; some servers answer any path at all with 200."""
    try:
        reply = json.loads(content)
    except ValueError:
        reply = None
    if isinstance(reply, dict) and wanted in reply:
        return reply
    said = discreet(content[:200].decode(errors="replace"))
    return Fault("server_error", f"its reply holds no {wanted}: {said}", passing=True)


async def lacks_batch_api(base_url: str, key_variable: str) -> bool:
    """Whether a server says that it has no Batch API. One that does not answer, or asks for a key, has not said so."""
    server = Connection(base_url, key_variable, SECONDS_TO_SAY)
    try:
        answer = await server.send("GET", "/batches?limit=1")
    finally:
        await server.close()
    if isinstance(answer, Fault):
        return False
    return answer.status in (404, 501) or (
        answer.status == 200 and isinstance(_holding("data", answer.content), Fault)
    )
