"""A chat model behind the Batch API: requests go out as files, answers come within a day at half the price.

Which batches are open, and with which requests, is noted before anyone waits for them: a run that is
stopped in between collects them when it is started again, and submits none of their requests twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from data.errors import RowFailed, UserError
from data.llm.batch_notes import BatchNotes, Notes
from data.llm.batch_phrasing import BatchPhrasing
from data.llm.batch_results import Outcome, left_undone
from data.llm.batch_server import ENDPOINT, TRIES, BatchServer
from data.llm.chat import ChatRequest, Completion
from data.llm.dialect import Dialect
from data.llm.wire import chat_body

MOST_REQUESTS = 10_000  # in one batch; providers allow up to 50,000
MOST_BYTES = 100_000_000  # of one file of requests, pictures included; providers allow up to 200 MB
SUBMISSIONS = 3  # of one request: a batch may expire half done
QUIET_SECONDS = 2.0  # without a new request: what there is goes out
POLL_SECONDS = 30.0
FINISHED = ("completed", "expired", "cancelled", "failed")


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
        self._poll, self._quiet = poll_seconds, quiet_seconds
        self._server = BatchServer(model, base_url, key_variable, timeout_seconds, longest_wait=poll_seconds)
        self._notes = BatchNotes(memory, self._server.url, model)
        start = Dialect(limit="max_completion_tokens" if base_url is None else "max_tokens")
        self._phrasing = BatchPhrasing(memory, f"dialect {self._server.url} {model}", start)
        self._ready: dict[str, Outcome] = {}
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
                    await asyncio.sleep(0 if self._ready.keys() & self._waiting.keys() else self._poll)
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
            elif isinstance(outcome, UserError):
                future.set_exception(outcome)  # its batch is over: the next run asks again
            elif outcome.passing and self._submitted[key] < SUBMISSIONS:
                continue  # it goes out again
            else:
                future.set_exception(RowFailed(outcome.reason, outcome.detail))
            del self._waiting[key]

    async def _submit(self) -> None:
        """Put requests that no open batch holds into new ones."""
        await self._adopt()
        self._notes.files.clear()  # nothing was made of the others: their requests go out in new files
        held = self._notes.held()
        new = [key for key in self._waiting if key not in held and key not in self._ready]
        lines: dict[str, bytes] = {}
        size = 0
        for key in new:
            request, future = self._waiting[key]
            try:
                line = await asyncio.to_thread(self._line, key, request)
            except RowFailed as failed:  # its picture cannot be read, which must not touch the others
                future.set_exception(failed)
                del self._waiting[key]
                continue
            if lines and (len(lines) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
                await self._create(set(lines), b"".join(lines.values()))
                lines, size = {}, 0
            lines[key] = line
            size += len(line)
        if lines:
            await self._create(set(lines), b"".join(lines.values()))

    def _line(self, key: str, request: ChatRequest) -> bytes:
        """A request as a line of a file. Raises `RowFailed` for an unreadable picture."""
        body = chat_body(request, self._phrasing.dialect)
        line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
        return json.dumps(line).encode() + b"\n"

    async def _create(self, keys: set[str], content: bytes) -> None:
        """Upload a file of requests and make a batch of it.

        A batch whose answer was lost is looked for before it is asked for again: it may have been made.
        """
        file = await self._server.upload(content)
        self._notes.add_file(file, keys)
        for tried in range(TRIES):
            made = await self._server.make(file)
            if isinstance(made, str):
                self._take_on(made, file)
                return
            fault = made
            if not fault.passing:
                break
            await self._server.pause(tried)
            await self._adopt()
            if file not in self._notes.files:
                return
        raise self._server.stuck(fault)

    async def _adopt(self) -> None:
        """Take on the batches that were made of uploaded files without our hearing of it."""
        if self._notes.files:
            async for batch in self._server.batches():
                if batch.get("input_file_id") in self._notes.files:
                    self._take_on(str(batch["id"]), batch["input_file_id"])

    def _take_on(self, batch: str, file: str) -> None:
        """From here on the batch made of a file is looked after."""
        keys = self._notes.add_batch(batch, file)
        self._submitted.update(keys)
        self._phrasing.sent(batch)
        print(f"batch {batch}: {len(keys)} requests submitted", file=sys.stderr)

    async def _collect(self) -> None:
        """Take in the results of batches that have ended, whole or in part, of those that somebody waits for."""
        for batch in [each for each, keys in self._notes.open.items() if keys & self._waiting.keys()]:
            state = await self._server.state(batch)
            if state["status"] not in FINISHED:
                continue
            results = await self._server.results(batch, state)
            again = self._phrasing.learn(batch, results)
            self._submitted.subtract(again.keys())
            results |= again
            keys, missing = self._notes.open[batch], left_undone(state)
            wanted = keys & self._waiting.keys() | self._notes.unstored(keys)
            self._ready |= {key: results.get(key, missing) for key in wanted}
            self._notes.end(batch, {key for key, each in results.items() if isinstance(each, Completion)})
            self._arrived.set()

    async def close(self) -> None:
        """Stop waiting. What is still open stays noted, and what was handed out until the cache has it."""
        if self._work is not None:
            self._work.cancel()
            self._notes.write()
        await self._server.close()
