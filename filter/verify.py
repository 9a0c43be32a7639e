"""Stage `verify`: an MLLM looks whether text and picture belong together, and whether the pair is risky.

The paper's last check (section 3, "pairs matched", "pairs harmful"). It judges, the gates decide.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from data.llm.chat import Asker
from data.llm.pictures import picture
from data.prompts import Prompt
from data.records import Check, Pair


class PairVerdict(BaseModel):
    """What the MLLM answers: first why, then what."""

    why_matching: str
    fit: int = Field(ge=0, le=10)  # how well the text fits the picture
    matching: bool
    why_risky: str
    risky: bool  # a full answer, given what the picture shows, would help do harm
    why_text: str
    text_alone_harmful: bool  # so it would without the picture


async def verify_pair(pair: Pair, asker: Asker, prompt: Prompt, folder: Path) -> Pair:
    """The pair with the MLLM's three findings in its checks. The answer comes through the cache."""
    system, user = prompt.fill(
        instruction=pair.instruction,
        image_description=pair.image_description,
        category=pair.category,
        sub_category=pair.sub_category,
    )
    verdict = await asker.ask(system, user, PairVerdict, pictures=[picture(folder / pair.image_path)])
    by = asker.chat.model
    found = (
        Check(
            gate="mismatch",
            passed=verdict.matching,
            score=verdict.fit / 10,
            by=by,
            reason=verdict.why_matching,
        ),
        Check(gate="not_risky", passed=verdict.risky, by=by, reason=verdict.why_risky),
        Check(gate="text_alone", passed=not verdict.text_alone_harmful, by=by, reason=verdict.why_text),
    )
    names = {check.gate for check in found}
    return pair.replace(checks=(*(check for check in pair.checks if check.gate not in names), *found))
