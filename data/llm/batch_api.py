"""A chat model behind the Batch API: requests go out as files, answers come within a day at half the price.

Which batches are open, and with which requests, is noted before anyone waits for them: a run that is
stopped in between collects them when it is started again, and submits none of their requests twice.
The file of a batch is noted before the batch is made of it: one whose answer was lost is found by its file.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeGuard

from data.errors import RowFailed, UserError
from data.llm.chat import ChatRequest, Completion
from data.llm.connection import Answer, Connection, Upload
from data.llm.dialect import PHRASING, Dialect, Memory, remembered, simpler
from data.llm.faults import Fault, discreet
from data.llm.wire import chat_body, read_completion

MOST_REQUESTS = 10_000  # in one batch; providers allow up to 50,000
MOST_BYTES = 100_000_000  # of one file of requests, pictures included; providers allow up to 200 MB
SUBMISSIONS = 3  # of one request: a batch may expire half done
QUIET_SECONDS = 2.0  # without a new request: what there is goes out
POLL_SECONDS = 30.0
TRIES = 5  # of one call to the server
FINISHED = ("completed", "expired", "cancelled", "failed")
ENDPOINT = "/v1/chat/completions"


class Notes(Memory, Protocol):
    """A memory that can also forget, and knows which requests are answered: the response cache."""

    def forget(self, name: str) -> None: ...

    def get(self, key: str) -> str | None: ...


class Absent(UserError):
    """The server knows nothing under a path."""


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
        self._dialect_note = f"dialect {self._server.url} {model}"
        self._dialect = self._loaded = remembered(memory, self._dialect_note) or start
        self._spoken: dict[str, Dialect] = {}  # the batches of this process -> how their requests are phrased
        self._refused: list[Dialect] = []  # dialects in which not one request of a batch was answered
        self._proven = False
        self._note = f"batches {self._server.url} {model}"
        self._open: dict[str, set[str]] = json_sets(memory.recall(self._note))  # batch -> its requests' keys
        self._files_note = f"batch files {self._server.url} {model}"
        self._uploaded = json_sets(memory.recall(self._files_note))  # file of no known batch -> its keys
        self._known = self._open.keys() | self._uploaded.keys()  # beside those of other chats with this model
        self._collected: dict[str, set[str]] = {}
        self._ready: dict[str, Completion | Fault | UserError] = {}
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
        self._uploaded.clear()  # nothing was made of the others: their requests go out in new files
        held = set().union(*self._open.values()) if self._open else set()
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
        body = chat_body(request, self._dialect)
        line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
        return json.dumps(line).encode() + b"\n"

    async def _create(self, keys: set[str], content: bytes) -> None:
        """Upload a file of requests and make a batch of it.

        A batch whose answer was lost is looked for before it is asked for again: it may have been made.
        """
        file = str((await self._say("POST", "/files", Upload("batch", content)))["id"])
        self._uploaded[file] = keys
        self._known.add(file)
        self._write_notes()
        wanted = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"}
        for tried in range(TRIES):
            made = self._content(await self._server.send("POST", "/batches", json.dumps(wanted).encode()))
            if isinstance(made, bytes):
                self._take_on(str(json.loads(made)["id"]), file)
                return
            fault = made
            if not fault.passing:
                break
            await asyncio.sleep(self._pause(tried))
            await self._adopt()
            if file not in self._uploaded:
                return
        raise self._stuck(fault)

    async def _adopt(self) -> None:
        """Take on the batches that were made of uploaded files without our hearing of it."""
        if self._uploaded:
            async for batch in self._batches():
                if batch.get("input_file_id") in self._uploaded:
                    self._take_on(str(batch["id"]), batch["input_file_id"])

    async def _batches(self) -> AsyncIterator[dict[str, Any]]:
        """The batches of the account, page by page."""
        path, last = "/batches?limit=100", ""
        while True:
            page = await self._say("GET", path + (f"&after={last}" if last else ""))
            for batch in page.get("data") or ():
                yield batch
            if not page.get("has_more") or page.get("last_id") in (None, last):
                return
            last = page["last_id"]

    def _take_on(self, batch: str, file: str) -> None:
        """From here on the batch made of a file is looked after."""
        keys = self._uploaded.pop(file)
        self._submitted.update(keys)
        self._open[batch] = keys
        self._spoken[batch] = self._dialect
        self._known.add(batch)
        self._write_notes()
        print(f"batch {batch}: {len(keys)} requests submitted", file=sys.stderr)

    async def _collect(self) -> None:
        """Take in the results of batches that have ended, whole or in part, of those that somebody waits for."""
        for batch in [each for each, keys in self._open.items() if keys & self._waiting.keys()]:
            state = await self._state(batch)
            if state.get("status") not in FINISHED:
                continue
            results: dict[str, Completion | Fault | UserError] = {}
            for kind in ("output_file_id", "error_file_id"):
                if state.get(kind):
                    results |= dict(self._results(await self._kept(batch, state[kind])))
            self._settle_dialect(batch, results)
            missing = Fault("batch_incomplete", _ending(state), passing=True)
            keys = {key for key in self._open.pop(batch) if self._memory.get(key) is None}
            self._collected[batch] = keys
            self._ready |= {key: results.get(key, missing) for key in keys}
            self._arrived.set()

    async def _state(self, batch: str) -> dict[str, Any]:
        try:
            return await self._say("GET", f"/batches/{batch}")
        except Absent as error:
            raise UserError(
                f"The server at {self._server.address} does not know the batch {batch} that was submitted: set "
                "the key of the account that did, or leave out --batch to ask for its answers anew."
            ) from error

    async def _kept(self, batch: str, file: str) -> bytes:
        """The content of a result file; nothing where the server has deleted it, as they do after some weeks."""
        try:
            return await self._fetch(f"/files/{file}/content")
        except Absent:
            print(f"batch {batch}: results are gone, what lacks an answer is asked again", file=sys.stderr)
            return b""

    def _settle_dialect(self, batch: str, results: dict[str, Completion | Fault | UserError]) -> None:
        """Learn from a batch how requests are phrased: one without any answer goes out again in simpler words."""
        spoken = self._spoken.get(batch, self._loaded)
        if not self._proven and any(isinstance(each, Completion) for each in results.values()):
            self._proven, self._refused = True, []
            self._speak(spoken)
        complaints = {key: each for key, each in results.items() if _is_about_phrasing(each)}
        if not complaints or (self._proven and spoken == self._dialect):
            return
        if spoken == self._dialect:
            self._refused.append(spoken)
            complaint = next(iter(complaints.values())).detail
            self._speak(simpler(spoken, complaint, self._refused) or self._refused[0])
        if self._dialect not in self._refused:
            results |= {key: replace(each, passing=True) for key, each in complaints.items()}
            self._submitted.subtract(complaints.keys())

    def _speak(self, dialect: Dialect) -> None:
        """Phrase requests so from here on, also in the next process."""
        if dialect != self._dialect:
            self._dialect = dialect
            self._memory.remember(self._dialect_note, dialect.model_dump_json())

    def _results(self, content: bytes) -> Iterator[tuple[str, Completion | Fault | UserError]]:
        """(key, outcome) of each line of a result file."""
        for line in content.splitlines():
            entry = json.loads(line)
            response = entry.get("response") or {}
            body = json.dumps(response.get("body") or entry.get("error") or {}).encode()
            if response.get("status_code") != 200:
                answer = Answer(response.get("status_code") or 500, {}, body)
                yield entry["custom_id"], self._refusal(answer)
                continue
            completion = read_completion(body)
            if isinstance(completion, Completion):
                completion = completion.model_copy(update={"batched": True})
            yield entry["custom_id"], completion

    def _refusal(self, answer: Answer) -> Fault | UserError:
        """What a line's failed answer means; one that stops the run must leave the other lines theirs."""
        try:
            return self._server.fault(answer, self.model)
        except UserError as error:
            return error

    async def _say(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(await self._fetch(path, method, body))
        return reply

    async def _fetch(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        """An answer's content. What stands is noted, so a server that stays away only ends this process.

        Not for what must not be done twice: a file that was uploaded twice costs nothing, a batch does.
        """
        for tried in range(TRIES):
            content = self._content(await self._server.send(method, path, body))
            if isinstance(content, bytes):
                return content
            fault = content
            if not fault.passing:
                break
            await asyncio.sleep(self._pause(tried))
        raise self._stuck(fault)

    def _content(self, answer: Answer | Fault) -> bytes | Fault:
        """What a successful answer holds, or what went wrong. Raises `UserError` for what stops the run."""
        if isinstance(answer, Fault):
            return answer
        if answer.status in (404, 405):
            raise Absent(f"The server at {self._server.address} has no Batch API: leave out --batch.")
        return answer.content if answer.status == 200 else self._server.fault(answer, self.model)

    def _pause(self, tried: int) -> float:
        return min(self._poll, 2.0**tried)

    def _stuck(self, fault: Fault) -> UserError:
        return UserError(
            f"The Batch API at {self._server.address} does not work ({fault.detail}): what was submitted is "
            "noted, run the same command again to collect it."
        )

    def _write_notes(self) -> None:
        """Note the open batches, those some of whose answers nobody has asked for yet, and files without one.

        What another chat with the same server and model has noted meanwhile stays.
        """
        unasked = {batch: keys for batch, keys in self._collected.items() if keys & self._ready.keys()}
        for name, own in ((self._note, self._open | unasked), (self._files_note, self._uploaded)):
            noted = json_sets(self._memory.recall(name))
            sets = {each: keys for each, keys in noted.items() if each not in self._known} | own
            if sets:
                self._memory.remember(name, json.dumps({each: sorted(keys) for each, keys in sets.items()}))
            else:
                self._memory.forget(name)

    async def close(self) -> None:
        """Stop waiting. What is still open stays noted; what was handed out is in the cache by now."""
        if self._work is not None:
            self._work.cancel()
            self._write_notes()
        await self._server.close()


def _is_about_phrasing(outcome: Completion | Fault | UserError) -> TypeGuard[Fault]:
    """Whether a line was refused for how it was phrased, which every line of the batch shares."""
    return (
        isinstance(outcome, Fault)
        and outcome.reason in ("bad_request", "server_error")
        and PHRASING.search(outcome.detail) is not None
    )


def _ending(state: Mapping[str, Any]) -> str:
    """How a batch ended, and what its server says was wrong with it."""
    errors = (state.get("errors") or {}).get("data") or [{}]
    said = discreet(str(errors[0].get("message") or ""))
    return f"the batch ended as {state['status']}" + (f": {said}" if said else "")


def json_sets(note: str | None) -> dict[str, set[str]]:
    """The noted batches or files: id -> keys of their requests."""
    return {identity: set(keys) for identity, keys in json.loads(note or "{}").items()}
