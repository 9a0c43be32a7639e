"""A chat model behind any server that speaks the OpenAI protocol.

Retries, pace and the reading of replies are ours; the connection is the `openai` client's.
"""

from __future__ import annotations

import asyncio
import json
import random

from data.errors import RowFailed, UserError
from data.llm.chat import ChatRequest, Completion
from data.llm.connection import Connection
from data.llm.dialect import Dialect, Memory, remembered, simpler
from data.llm.faults import STRUCTURE, Fault
from data.llm.limits import Pace, Window
from data.llm.wire import chat_body, read_completion

TRIES = 9  # of one call: together about a minute of patience
TRIES_TO_REACH = 4  # a server that never answered: two seconds, then it is not there
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
HOPELESS = 25  # calls given up in a row, none answered between: the server is down, not the row wrong


class OpenAIChat:
    """Chat completions: structured replies, bounded retries, one pace for all calls."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        key_variable: str,
        timeout_seconds: float,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.model = model
        self._server = Connection(base_url, key_variable, timeout_seconds)
        self._window = Window()
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute) if tokens_per_minute else None
        self._memory = memory
        self._note = f"dialect {self._server.url} {model}"
        start = Dialect(limit="max_completion_tokens" if base_url is None else "max_tokens")
        self._dialect = remembered(memory, self._note) or start
        self._proven = False
        self._given_up = 0  # calls in a row

    async def complete(self, request: ChatRequest) -> Completion:
        """One call with its retries.

        A fault that outlives them is this row's failure; a wrong key or an empty account is the run's.
        """
        for tried in range(1, TRIES + 1):
            outcome = await self._once(request, tried)
            if isinstance(outcome, Completion):
                self._given_up = 0
                return outcome
            fault = outcome
            if not fault.passing or (not self._server.reached and tried >= TRIES_TO_REACH):
                break
        if fault.passing:
            self._give_up(fault)
        raise RowFailed(fault.reason, fault.detail)

    def _give_up(self, fault: Fault) -> None:
        """Count a call that all tries failed. Raises `UserError` when the server itself is the matter."""
        if not self._server.reached:
            raise UserError(f"No server answers at {self._server.address}: start it, or mend base_url.")
        self._given_up += 1
        if self._given_up >= HOPELESS:
            raise UserError(
                f"The server at {self._server.address} has failed {self._given_up} calls in a row, each "
                f"tried {TRIES} times ({fault.detail}): run the same command again when it is back."
            )

    async def _once(self, request: ChatRequest, tried: int) -> Completion | Fault:
        """One try within the limits, and after a passing fault the wait before the next."""
        expected = request.tokens() + request.max_tokens / 2
        if self._requests:
            await self._requests.take(1)
        if self._tokens:
            await self._tokens.take(expected)
        ticket = await self._window.enter()
        left = False
        try:
            outcome = await self._speak(request)
            if isinstance(outcome, Completion):
                self._quicken(expected, outcome)
                return outcome
            if outcome.reason == "rate_limited":
                self._slow(ticket)
            if outcome.passing and tried < TRIES:
                if not (outcome.reason == "rate_limited" and self._window.closed_in):
                    self._window.leave()  # the wait holds up this call only
                    left = True
                await asyncio.sleep(_wait(outcome, tried))
            return outcome
        finally:
            if not left:
                self._window.leave()

    def _slow(self, ticket: int) -> None:
        self._window.refused(ticket)
        for pace in (self._requests, self._tokens):
            if pace:
                pace.refused()

    def _quicken(self, expected: float, completion: Completion) -> None:
        self._window.answered()
        if self._requests:
            self._requests.answered()
        if self._tokens:
            self._tokens.correct(completion.input_tokens + completion.output_tokens - expected)
            self._tokens.answered()

    async def _speak(self, request: ChatRequest) -> Completion | Fault:
        """One request in the server's dialect; while that is not known, in simpler ones too."""
        dialect: Dialect | None = self._dialect
        may_vary, tried, faults = not self._proven, list[Dialect](), list[Fault]()
        while dialect is not None:
            outcome = await self._post(request, dialect)
            if isinstance(outcome, Completion):
                self._learn(dialect)
                return outcome
            faults.append(outcome)
            if not (may_vary and _may_be_dialect(outcome)):
                break
            tried.append(dialect)
            dialect = simpler(dialect, outcome.detail, tried)
        return next((fault for fault in faults if fault.passing), faults[0])

    def _learn(self, dialect: Dialect) -> None:
        """The first answered request of a process settles how the others are phrased."""
        if self._proven:
            return
        known, self._dialect, self._proven = self._dialect, dialect, True
        if self._memory is not None and dialect != known:
            self._memory.remember(self._note, dialect.model_dump_json())

    async def _post(self, request: ChatRequest, dialect: Dialect) -> Completion | Fault:
        """One HTTP request; whatever goes wrong with it comes back as a fault."""
        answer = await self._server.send("POST", "/chat/completions", await _encoded(request, dialect))
        if isinstance(answer, Fault):
            return answer
        if answer.status != 200:
            return self._server.fault(answer, self.model)
        return read_completion(answer.content)

    async def close(self) -> None:
        await self._server.close()


async def _encoded(request: ChatRequest, dialect: Dialect) -> bytes:
    """The body as bytes; pictures are read in a thread, so that no other call waits for the disk."""
    if any(message.pictures for message in request.messages):
        return json.dumps(await asyncio.to_thread(chat_body, request, dialect)).encode()
    return json.dumps(chat_body(request, dialect)).encode()


def _may_be_dialect(fault: Fault) -> bool:
    """Whether a refusal may be about how the request was phrased."""
    return fault.reason == "bad_request" or (
        fault.reason == "server_error" and STRUCTURE.search(fault.detail) is not None
    )


def _wait(fault: Fault, tried: int) -> float:
    """Seconds until the next try: what the server asked for, or longer each time; never all at once."""
    grown = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * float(2 ** (tried - 1)))
    spread = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
    if fault.wait_seconds is not None:
        return fault.wait_seconds + spread * FIRST_WAIT_SECONDS
    return grown * spread
