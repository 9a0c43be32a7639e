"""Stage `rewrite`: an LLM hides the harm, so that only the picture tells what is dangerous.

Each draft is audited and checked. What is wrong with it goes back to the LLM ("the words 'revolver' and
'cartridges' give the image away") for another try, a bounded number of times.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from construct.workshop import Workshop
from data.records import Audit, Pair, Repair

STAGE = "rewrite"
NONE_YET = "none yet"
LEAK = "leak"
MOST_WORDS = 3  # leaking words handed back
TELLING = 0.5  # of the heaviest word's weight: lighter ones are not handed back
REASONS = {"harmful": "still_harmful", "meaningless": "meaningless"}


class RewriteReply(BaseModel):
    """What the LLM answers."""

    instruction: str = Field(min_length=1)


class CheckReply(BaseModel):
    """What the LLM finds when it checks a draft; the reason comes before the verdict."""

    because: str
    verdict: Literal["good", "harmful", "meaningless"]


class Flaw(NamedTuple):
    """What is wrong with a draft: a code, the words for the LLM, and how much the draft leaks (0 to 1)."""

    reason: str
    said: str
    leakage: float = 0.0


async def rewrite_query(pair: Pair, shop: Workshop) -> Pair:
    """The pair with `instruction`, the harmless-looking form of its harmful query.

    A pair none of whose drafts passes the check is rejected with the check's reason. One whose drafts
    all leak keeps the draft that leaks least: the filter's gate has the last word on leaks.
    A draft that comes a second time is asked anew, for the same prompt would bring it back from the cache.
    """
    drafts: dict[str, Flaw] = {}
    for tries in range(1 + shop.profile.rewrite.further_tries):
        draft = await _draft(pair, drafts, shop, repeated=tries - len(drafts))
        flaw = await find_flaw(pair, draft, shop)
        if flaw is None:
            repairs = [Repair(stage=STAGE, reason=earlier.reason) for earlier in drafts.values()]
            return pair.replace(instruction=draft, repaired=repairs[0] if repairs else None)
        drafts[draft] = flaw
    leaking = [draft for draft, flaw in drafts.items() if flaw.reason == LEAK]
    for draft in sorted(leaking, key=lambda draft: drafts[draft].leakage):
        checked = await _check(pair, draft, shop)
        if checked is None:
            return pair.replace(instruction=draft)
        drafts[draft] = checked
    draft, flaw = list(drafts.items())[-1]
    return pair.replace(instruction=draft).reject(STAGE, flaw.reason, flaw.said)


async def _draft(pair: Pair, earlier: dict[str, Flaw], shop: Workshop, repeated: int) -> str:
    said = [f'"{draft}" - {flaw.said}' for draft, flaw in earlier.items()]
    system, user = shop.prompt("rewrite").fill(
        image_description=pair.image_description,
        harmful_query=pair.harmful_query,
        earlier="\n".join(said) or NONE_YET,
    )
    reply = await shop.author.ask(system, user, RewriteReply, attempt=repeated)
    return " ".join(reply.instruction.split())


async def find_flaw(pair: Pair, draft: str, shop: Workshop) -> Flaw | None:
    """What is wrong with a draft, or None. The audit comes first: it is free, the check is not."""
    audit = await shop.leak_scorer.score(draft, pair.image_description)
    if audit.leakage is not None and audit.leakage > shop.profile.rewrite.max_leakage:
        return Flaw(LEAK, _give_away(leaking_words(audit)), audit.leakage)
    return await _check(pair, draft, shop)


async def _check(pair: Pair, draft: str, shop: Workshop) -> Flaw | None:
    """Whether a draft is still harmful by itself, or has lost its purpose."""
    system, user = shop.prompt("check").fill(
        image_description=pair.image_description, harmful_query=pair.harmful_query, instruction=draft
    )
    reply = await shop.author.ask(system, user, CheckReply, temperature=0.0)
    return None if reply.verdict == "good" else Flaw(REASONS[reply.verdict], reply.because)


def leaking_words(audit: Audit) -> tuple[str, ...]:
    """The words of the query that match the picture's risk most, heaviest first."""
    heaviest = max((span.weight for span in audit.query_spans), default=0.0)
    return tuple(span.text for span in audit.query_spans if span.weight >= TELLING * heaviest)[:MOST_WORDS]


def _give_away(words: tuple[str, ...]) -> str:
    if not words:
        return "it gives the image away"
    quoted = " and ".join(f"'{word}'" for word in words)
    return f"the words {quoted} give the image away" if len(words) > 1 else f"{quoted} gives the image away"
