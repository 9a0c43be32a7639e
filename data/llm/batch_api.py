"""A chat model behind the Batch API: requests go out as files, answers come within a day at half the price.

Which batches are open, and with which requests, is noted before anyone waits for them: a run that is
stopped in between collects them when it is started again, and submits none of their requests twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from data.errors import RowFailed, UserError
from data.llm.chat import ChatRequest, Completion
from data.llm.connection import Answer, Connection, Upload
from data.llm.dialect import Dialect, Memory, remembered
from data.llm.faults import Fault
from data.llm.wire import chat_body, read_completion

MOST_REQUESTS = 10_000  # in one batch; providers allow up to 50,000 and 200 MB
SUBMISSIONS = 3  # of one request: a batch may expire half done
QUIET_SECONDS = 2.0  # without a new request: what there is goes out
POLL_SECONDS = 30.0
FINISHED = ("completed", "expired", "cancelled", "failed")
ENDPOINT = "/v1/chat/completions"


class Notes(Memory, Protocol):
    """A memory that can also forget, and knows which requests are answered: the response cache."""

    def forget(self, name: str) -> None: ...

    def get(self, key: str) -> str | None: ...


class BatchChat:
    """Collects the requests of all workers, submits them together, and hands out the answers."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        key_variable: str,
        timeout_seconds: float,
        memory: Notes,
        *,
        poll_seconds: float = POLL_SECONDS,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.model = model
        self._server = Connection(base_url, key_variable, timeout_seconds)
        self._memory = memory
        self._poll, self._quiet = poll_seconds, quiet_seconds
        start = Dialect(limit="max_completion_tokens" if base_url is None else "max_tokens")
        self._dialect = remembered(memory, f"dialect {self._server.url} {model}") or start
        self._note = f"batches {self._server.url} {model}"
        self._open: dict[str, set[str]] = json_sets(memory.recall(self._note))  # batch -> its requests' keys
        self._collected: dict[str, set[str]] = {}
        self._ready: dict[str, Completion | Fault] = {}
        self._waiting: dict[str, tuple[ChatRequest, asyncio.Future[Completion]]] = {}
        self._submitted: Counter[str] = Counter()
        self._arrived = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def complete(self, request: ChatRequest) -> Completion:
        """The answer, when its batch is done."""
        key = request.key()
        if key not in self._waiting:
            self._waiting[key] = request, asyncio.get_running_loop().create_future()
        self._arrived.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._submit_and_collect())
        return await asyncio.shield(self._waiting[key][1])

    async def _submit_and_collect(self) -> None:
        """Until nobody waits: let requests gather, submit them, look after the open batches."""
        try:
            while self._waiting:
                await self._gather()
                self._hand_out()
                await self._submit()
                if self._waiting:
                    await asyncio.sleep(0 if self._ready else self._poll)
                    await self._collect()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()

    async def _gather(self) -> None:
        """Return when no request has come for a while."""
        while self._arrived.is_set():
            self._arrived.clear()
            await asyncio.sleep(self._quiet)

    def _hand_out(self) -> None:
        """Give each answer that is there to whoever waits for it."""
        for key in self._waiting.keys() & self._ready.keys():
            outcome = self._ready.pop(key)
            _, future = self._waiting[key]
            if isinstance(outcome, Completion):
                future.set_result(outcome)
            elif outcome.passing and self._submitted[key] < SUBMISSIONS:
                continue  # it goes out again
            else:
                future.set_exception(RowFailed(outcome.reason, outcome.detail))
            del self._waiting[key]

    async def _submit(self) -> None:
        """Put requests that no open batch holds into new ones."""
        held = set().union(*self._open.values()) if self._open else set()
        new = [key for key in self._waiting if key not in held and key not in self._ready]
        for start in range(0, len(new), MOST_REQUESTS):
            keys = new[start : start + MOST_REQUESTS]
            lines = [json.dumps(self._line(key, self._waiting[key][0])) for key in keys]
            batch = await self._create(("\n".join(lines) + "\n").encode())
            self._submitted.update(keys)
            self._open[batch] = set(keys)
            self._write_note()
            print(f"batch {batch}: {len(keys)} requests submitted", file=sys.stderr)

    def _line(self, key: str, request: ChatRequest) -> dict[str, Any]:
        body = chat_body(request, self._dialect)
        return {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}

    async def _create(self, content: bytes) -> str:
        """Upload a file of requests and make a batch of it; the batch's id."""
        file = await self._say("POST", "/files", Upload("batch", content))
        wanted = {"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h"}
        batch = await self._say("POST", "/batches", json.dumps(wanted).encode())
        return str(batch["id"])

    async def _collect(self) -> None:
        """Take in the results of batches that have ended, whole or in part."""
        for batch in list(self._open):
            state = await self._say("GET", f"/batches/{batch}")
            if state.get("status") not in FINISHED:
                continue
            results: dict[str, Completion | Fault] = {}
            for kind in ("output_file_id", "error_file_id"):
                if state.get(kind):
                    results |= dict(self._results(await self._fetch(f"/files/{state[kind]}/content")))
            missing = Fault("batch_incomplete", f"the batch ended as {state['status']}", passing=True)
            keys = {key for key in self._open.pop(batch) if self._memory.get(key) is None}
            self._collected[batch] = keys
            self._ready |= {key: results.get(key, missing) for key in keys}
            self._arrived.set()

    def _results(self, content: bytes) -> Iterator[tuple[str, Completion | Fault]]:
        """(key, outcome) of each line of a result file."""
        for line in content.splitlines():
            entry = json.loads(line)
            response = entry.get("response") or {}
            body = json.dumps(response.get("body") or entry.get("error") or {}).encode()
            if response.get("status_code") != 200:
                answer = Answer(response.get("status_code") or 500, {}, body)
                yield entry["custom_id"], self._server.fault(answer, self.model)
                continue
            completion = read_completion(body)
            if isinstance(completion, Completion):
                completion = completion.model_copy(update={"batched": True})
            yield entry["custom_id"], completion

    async def _say(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(await self._fetch(path, method, body))
        return reply

    async def _fetch(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        """An answer's content. What stands is noted, so a server that stays away only ends this process."""
        for tried in range(5):
            answer = await self._server.send(method, path, body)
            if isinstance(answer, Answer) and answer.status == 200:
                return answer.content
            if isinstance(answer, Answer) and answer.status in (404, 405):
                raise UserError(f"The server at {self._server.address} has no Batch API: leave out --batch.")
            fault = answer if isinstance(answer, Fault) else self._server.fault(answer, self.model)
            if not fault.passing or not isinstance(body, bytes | None):
                break
            await asyncio.sleep(min(self._poll, 2.0**tried))
        raise UserError(
            f"The Batch API at {self._server.address} does not work ({fault.detail}): what was submitted is "
            "noted, run the same command again to collect it."
        )

    def _write_note(self) -> None:
        """Note the open batches, and those some of whose answers nobody has asked for yet."""
        unasked = {batch: keys for batch, keys in self._collected.items() if keys & self._ready.keys()}
        noted = {batch: sorted(keys) for batch, keys in (self._open | unasked).items()}
        if noted:
            self._memory.remember(self._note, json.dumps(noted))
        else:
            self._memory.forget(self._note)

    async def close(self) -> None:
        """Stop waiting. What is still open stays noted; what was handed out is in the cache by now."""
        if self._work is not None:
            self._work.cancel()
            self._write_note()
        await self._server.close()


def json_sets(note: str | None) -> dict[str, set[str]]:
    """The noted batches: batch id -> keys of its requests."""
    return {batch: set(keys) for batch, keys in json.loads(note or "{}").items()}
