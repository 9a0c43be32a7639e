"""An OpenAI-speaking server on loopback that writes plausible replies and, seeded, gets things wrong.

Which fault a request meets depends on the seed, its content and how often it came: a run is repeatable.
It counts the completions it delivered by the hash of the request. As a program of its own
(`python -m tests.fault_server 0.3`) it prints its port, so that clients of it can be killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]

PASSING = ("429", "429 retry-after", "500", "503", "hang", "reset", "not json")
LASTING = ("malformed", "wrong schema", "empty", "truncated", "refusal", "refusing prose", "content filter")
FAULTS = PASSING + LASTING


@dataclass
class FaultServer:
    """What it does wrong, and what it has seen."""

    fault_rate: float = 0.0
    seed: int = 0
    delay_seconds: float = 0.002
    hang_seconds: float = 30.0
    faults: tuple[str, ...] = FAULTS
    most_in_flight: int = 10**9  # beyond this: 429
    refuse: Callable[[Body], int] = lambda _: 0  # an HTTP status for requests to turn away, 0 for none
    delay: Callable[[Body], float] | None = None
    supports: tuple[str, ...] = ("json_schema", "json_object", "text")
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    bodies: list[Body] = field(default_factory=list)
    keep_bodies: bool = False
    in_flight: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        self.asked[key] += 1
        if self.keep_bodies:
            self.bodies.append(body)
        self.in_flight += 1
        try:
            if self.in_flight > self.most_in_flight:
                return _error(429, "too many requests in flight")
            await asyncio.sleep(self.delay(body) if self.delay else self.delay_seconds)
            return await self._answer(request, body, key)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, body: Body, key: str) -> web.StreamResponse:
        status = self.refuse(body)
        if status:
            return _error(status, "this request is refused on purpose")
        asked_for = body.get("response_format", {}).get("type", "text")
        if asked_for not in self.supports:
            return _error(400, f"response_format {asked_for} is not supported")
        fault = self._fault(key)
        if fault:
            self.met[fault] += 1
        if fault in PASSING:
            return await self._fail(request, fault)
        self.completed[key] += 1
        return _completion(body, fault)

    def _fault(self, key: str) -> str:
        dice = random.Random(f"{self.seed} {key} {self.asked[key]}")
        return dice.choice(self.faults) if dice.random() < self.fault_rate else ""

    async def _fail(self, request: web.Request, fault: str) -> web.StreamResponse:
        if fault == "hang":
            await asyncio.sleep(self.hang_seconds)
        if fault in ("hang", "reset"):
            if request.transport is not None:  # else the client has gone already
                request.transport.abort()
            return web.Response()
        if fault == "not json":
            return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
        status = int(fault[:3])
        return _error(status, "a passing fault", {"Retry-After": "0.2"} if "retry" in fault else None)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "t", "code": "c"}}
    return web.json_response(body, status=status, headers=headers)


def _completion(body: Body, fault: str) -> web.Response:
    """A completion that answers the prompt, or one with the given thing wrong."""
    text = json.dumps(reply_to(body))
    spoilt = {
        "malformed": text[:-2],
        "wrong schema": json.dumps({"thoughts": "none"}),
        "empty": "",
        "truncated": text[: len(text) // 2],
        "refusal": "",
        "refusing prose": "I'm sorry, but I can't help with that.",
        "content filter": "",
    }
    finish = {"truncated": "length", "content filter": "content_filter"}.get(fault, "stop")
    message = {"role": "assistant", "content": spoilt.get(fault, text),
               "refusal": "I cannot assist with that." if fault == "refusal" else None}  # fmt: skip
    usage = {"prompt_tokens": len(json.dumps(body["messages"])) // 4, "completion_tokens": len(text) // 4}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return web.json_response({"id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
                              "choices": [choice], "usage": usage})  # fmt: skip


def reply_to(body: Body) -> dict[str, Any]:
    """What a model could answer: told by the prompt, made from its hash."""
    prompts = [_text(message) for message in body["messages"] if message["role"] == "user"]
    prompt = prompts[0]
    mark = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    if more := re.search(r"List (\d+) more", prompt):
        return {"elements": [f"thing {mark}-{number}" for number in range(int(more[1]))]}
    described = {
        "image_description": f"a street with {mark} in the sun",
        "harmful_query": f"harm with {mark}?",
        "safety_reason": f"{mark} is a danger",
    }
    if "shows this element" in prompt:
        return described | {"belongs": True}
    if "The picture is tagged" in prompt:
        return described | {"sub_category": "Property Crimes", "usable": True}
    if "Rewrite the harmful query" in prompt:
        return {"instruction": f"what next here {mark}?"}
    if "Check the question" in prompt:
        return {"because": "fine", "verdict": "good"}
    if "<query>" in prompt:
        found = {"fit": 8, "matching": True, "risky": True, "text_alone_harmful": False}
        return found | {"why_matching": mark, "why_risky": mark, "why_text": mark}
    if "Give the reason first, then the label" in prompt:
        return {"reason": f"because of {mark}", "label": int(mark, 16) % 3 + 1}
    return {"name": mark}


def _text(message: Body) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


async def _start(server: FaultServer) -> web.AppRunner:
    async def counts(_: web.Request) -> web.Response:
        figures = {"asked": server.asked, "completed": server.completed, "met": server.met}
        return web.json_response(figures)

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/chat/completions", server.handle)
    app.router.add_get("/counts", counts)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    return runner


@contextmanager
def serving(server: FaultServer) -> Iterator[FaultServer]:
    """The server, running in a thread of its own until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_start(server), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _serve_forever(server: FaultServer) -> None:
    await _start(server)
    print(server.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    rate, in_flight, delay, slow = (float(each) for each in (*sys.argv[1:], 0, 0, 0, 0)[:4])
    calls = iter(range(10**9))
    straggling = (lambda _: 2.0 if next(calls) % int(slow) == int(slow) - 1 else delay) if slow else None
    asyncio.run(
        _serve_forever(
            FaultServer(rate, most_in_flight=int(in_flight) or 10**9, delay_seconds=delay or 0.002,
                        delay=straggling)
        )
    )  # fmt: skip
