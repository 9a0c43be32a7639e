"""Safety classifiers for the VSIL check: is a pair harmful, and is its text alone?

blind                        the text-only guard; for the pair it reads the description in the picture's place
openai:MODEL                 any API model with the policy prompt (prompts/guard.md)
llama-guard:CHECKPOINT       Llama-Guard-3-11B-Vision, Llama-Guard-4: the policy is in their chat template
llavaguard:CHECKPOINT        LlavaGuard and other local models that take a policy prompt
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from data.errors import RowFailed, unknown
from data.llm.pictures import Picture
from data.llm.replies import Unreadable, read_reply, refuses_inside
from data.local_model import Reply, Settings
from data.prompts import load_prompt
from data.records import Record
from eval.models import Server, generate
from eval.records import Ask

PROMPT = Path(__file__).with_name("prompts") / "guard.md"
MAX_TOKENS = 256
RATING = re.compile(r'"rating"\s*:\s*"(Safe|Unsafe)"', re.IGNORECASE)  # LlavaGuard's


class Finding(Record):
    """What a guard found of a pair, or of its text alone."""

    id: str
    unsafe: bool
    reason: str = ""


class PolicyReply(BaseModel):
    """An API guard's reply, its reason first."""

    reason: str
    unsafe: bool


@dataclass(frozen=True)
class Guard:
    """A classifier by name; `each` ask on its own or in a `batch`."""

    name: str
    settings: Mapping[str, object]
    each: Callable[[Ask], Awaitable[Finding]] | None = None
    batch: Callable[[Sequence[Ask]], Sequence[Finding | RowFailed]] | None = None
    batch_size: int = 8
    workers: int = 16
    reads_description: bool = False  # in the picture's place


def load_guard(spec: str, server: Server, pickled: bool = False) -> Guard:
    """The guard that a specification names; a checkpoint's `pickled` weights only if asked for."""
    kind, _, name = spec.partition(":")
    if kind not in GUARDS or (kind != "blind" and not name):
        raise unknown("guard", spec, ["blind", *(f"{kind}:MODEL" for kind in GUARDS if kind != "blind")])
    return GUARDS[kind](name, server, pickled)


def _blind(_: str, __: Server, ___: bool) -> Guard:
    from data.embedders import load_embedder
    from eval.blind import THRESHOLD, BlindGuard

    guard = BlindGuard(load_embedder("minilm"))

    def batch(asks: Sequence[Ask]) -> list[Finding | RowFailed]:
        margins = guard.margins([ask.question for ask in asks])
        return [
            Finding(id=ask.id, unsafe=bool(margin > THRESHOLD), reason=f"margin {margin:.2f}")
            for ask, margin in zip(asks, margins, strict=True)
        ]

    return Guard("blind", guard.settings, batch=batch, batch_size=512, reads_description=True)


def _api(model: str, server: Server, _: bool) -> Guard:
    prompt, asker = load_prompt(PROMPT), server.asker(model, 0.0, MAX_TOKENS)

    async def each(ask: Ask) -> Finding:
        system, user = prompt.fill(question=ask.question)
        shown = [Picture(ask.image, ask.image_sha256)] if ask.image else []
        reply = await asker.ask(system, user, PolicyReply, pictures=shown)
        return Finding(id=ask.id, unsafe=reply.unsafe, reason=reply.reason)

    settings = {"guard": model, "prompt": prompt.fingerprint}
    return Guard(model, settings, each=each, workers=server.workers)


def _llama_guard(checkpoint: str, _: Server, pickled: bool) -> Guard:
    """Answers `safe`, or `unsafe` and the categories."""
    return _local(checkpoint, lambda ask: ask.question, read_llama_guard, "llama-guard", pickled)


def _llavaguard(checkpoint: str, _: Server, pickled: bool) -> Guard:
    """Is told the policy, answers with JSON."""
    prompt = load_prompt(PROMPT)
    text = lambda ask: "\n\n".join(prompt.fill(question=ask.question))  # noqa: E731
    return _local(checkpoint, text, read_llavaguard, prompt.fingerprint, pickled)


GUARDS: dict[str, Callable[[str, Server, bool], Guard]] = {
    "blind": _blind,
    "openai": _api,
    "llama-guard": _llama_guard,
    "llavaguard": _llavaguard,
}


def _local(
    checkpoint: str,
    text_of: Callable[[Ask], str],
    read: Callable[[str], bool | None],
    policy: str,
    pickled: bool,
) -> Guard:
    from data.hub_models import load_hub_model

    local = load_hub_model("auto", checkpoint, Settings(max_new_tokens=MAX_TOKENS), pickled)

    def batch(asks: Sequence[Ask]) -> list[Finding | RowFailed]:
        replies = generate(local, [(text_of(ask), ask.image) for ask in asks])
        return [_finding(ask, reply, read) for ask, reply in zip(asks, replies, strict=True)]

    settings = {"guard": checkpoint, "policy": policy, "revision": local.revision}
    return Guard(checkpoint, settings, batch=batch)


def _finding(ask: Ask, reply: Reply | RowFailed, read: Callable[[str], bool | None]) -> Finding | RowFailed:
    if isinstance(reply, RowFailed):
        return reply
    unsafe = read(reply.text)
    if unsafe is None:
        return RowFailed("invalid_reply", f"no finding in {reply.text[:120]!r}")
    return Finding(id=ask.id, unsafe=unsafe, reason=reply.text[:500])


def read_llama_guard(text: str) -> bool | None:
    """`safe` or `unsafe\\nS9`; anything else is no finding."""
    first = text.strip().split("\n")[0].strip().lower()
    return {"safe": False, "unsafe": True}.get(first)


def read_llavaguard(text: str) -> bool | None:
    """LlavaGuard's `{"rating": "Unsafe", ...}` or our policy prompt's `{"unsafe": true}`.

    Findings that differ are none, for one may be quoted from the request; so is a reply that declines.
    """
    found = {rating.lower() == "unsafe" for rating in RATING.findall(text)}
    with suppress(Unreadable):
        reply = read_reply(text, PolicyReply)
        if refuses_inside(reply):
            return None
        found.add(reply.unsafe)
    return found.pop() if len(found) == 1 else None
