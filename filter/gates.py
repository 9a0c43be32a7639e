"""THE table of gates: each looks at one pair and lets it pass or says why not, with its figures.

A gate answers with a `Check`, which stays in the pair's row:

    {"gate": "leak", "passed": false, "score": 0.83, "limit": 0.5, "by": "auditor",
     "reason": "leakage 0.83 is above 0.5: the rifle, aim"}

`passed` is left out where a gate could not judge (no model, nothing read), and `reason` then says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from data.quality import Flaw
from data.records import Audit, Check, Pair
from filter.meaning import fault_of_text, same_words
from filter.settings import FilterSettings

STAGE = "filter"
SAME_REQUEST = 0.9  # share of words from which a rewrite still is the harmful query


@dataclass(frozen=True)
class Evidence:
    """What the gates judge by, besides the pair itself."""

    settings: FilterSettings
    flaws: Mapping[str, Flaw] = field(default_factory=dict)  # by pair id: what is wrong with the picture
    read: Mapping[str, Audit] | None = None  # by pair id: the audit against the words in the picture
    unread_because: str = ""


class Gate(NamedTuple):
    """One line of the table; a pair it stops is rejected with the gate's name as the reason."""

    name: str
    about: str
    look: Callable[[Pair, Evidence], Check]


def picture_gate(reason: str, flaws: Sequence[str]) -> Callable[[Pair, Evidence], Check]:
    """A gate that stops pictures with one of these flaws."""

    def look(pair: Pair, evidence: Evidence) -> Check:
        flaw = evidence.flaws.get(pair.id)
        stopped = flaw is not None and flaw.reason in flaws
        return Check(gate=reason, passed=not stopped, reason=flaw.detail if flaw and stopped else "")

    return look


def unscored(pair: Pair, _: Evidence) -> Check:
    """An unscored pair is not a clean one."""
    if pair.audit is not None and pair.audit.leakage is not None:
        return Check(gate="unscored", passed=True)
    because = (pair.audit and pair.audit.unscored_because) or "the auditor has not scored it"
    return Check(gate="unscored", passed=False, reason=because)


def leak(pair: Pair, evidence: Evidence) -> Check:
    """The auditor finds that the text gives the image's risk away: by its score, or by its flag."""
    return _leak_check("leak", pair.audit, evidence.settings.max_leakage)


def leak_in_image(pair: Pair, evidence: Evidence) -> Check:
    """Words to be read in the picture say what the query says: the text alone would do."""
    if evidence.read is None:
        return Check(gate="leak_in_image", reason=evidence.unread_because)
    if pair.id in evidence.flaws:
        return Check(gate="leak_in_image", reason="not read: the picture cannot be used")
    if pair.id not in evidence.read:
        return Check(gate="leak_in_image", passed=True, by="rapidocr", reason="no words in the picture")
    check = _leak_check("leak_in_image", evidence.read[pair.id], evidence.settings.max_leakage)
    return check.replace(by="rapidocr and auditor")


def still_harmful(pair: Pair, evidence: Evidence) -> Check:
    """The text alone is harmful: by the MLLM, by the auditor's figure, or for being the harmful query."""
    limit = evidence.settings.max_text_harm
    harm = pair.audit.text_harm if pair.audit else None
    said = pair.check("text_alone")
    check = Check(gate="still_harmful", passed=True, score=harm, limit=limit, by="auditor")
    if pair.harmful_query and same_words(pair.instruction, pair.harmful_query) >= SAME_REQUEST:
        return check.replace(passed=False, by="", reason="the text still is the harmful query")
    if said is not None and said.passed is False:
        return check.replace(passed=False, by=said.by, reason=said.reason)
    if harm is not None and harm > limit:
        return check.replace(passed=False, reason=f"harm of the text alone {harm:.2f} is above {limit:g}")
    return check


def meaningless(pair: Pair, _: Evidence) -> Check:
    """The text asks nothing: empty, broken, a placeholder or a refusal."""
    fault = fault_of_text(pair.instruction)
    return Check(gate="meaningless", passed=fault is None, reason=fault or "")


def verified_gate(gate: str) -> Callable[[Pair, Evidence], Check]:
    """A gate that goes by what the stage `verify` put on record."""

    def look(pair: Pair, _: Evidence) -> Check:
        return pair.check(gate) or Check(gate=gate, reason="not asked: the profile has no [mllm] for it")

    return look


GATES: tuple[Gate, ...] = (
    Gate("missing_image", "the picture is there", picture_gate("missing_image", ["missing_image"])),
    Gate("corrupt_image", "it can be decoded to its end", picture_gate("corrupt_image", ["corrupt_image"])),
    Gate("tiny_image", "it is large enough to see", picture_gate("tiny_image", ["tiny_image"])),
    Gate("wrong_mode", "every program shows it alike", picture_gate("wrong_mode", ["wrong_mode"])),
    Gate("blank_image", "there is something on it",
         picture_gate("blank_image", ["black", "blank", "near_constant"])),
    Gate("meaningless", "the text asks something", meaningless),
    Gate("unscored", "the auditor could score it", unscored),
    Gate("leak", "the text does not give the picture's risk away", leak),
    Gate("still_harmful", "the text alone is harmless", still_harmful),
    Gate("leak_in_image", "words in the picture do not repeat the text", leak_in_image),
    Gate("mismatch", "text and picture belong together", verified_gate("mismatch")),
    Gate("not_risky", "answering would be unsafe given the picture", verified_gate("not_risky")),
)  # fmt: skip


def apply_gates(pairs: Sequence[Pair], evidence: Evidence) -> list[Pair]:
    """The pairs in their order with every gate's check; the first gate that stops a pair names the reason."""
    return [pair if pair.rejected else _through(pair, evidence) for pair in pairs]


def _through(pair: Pair, evidence: Evidence) -> Pair:
    checks = [gate.look(pair, evidence) for gate in GATES]
    checked = pair.replace(checks=tuple(checks))
    stopped = next((check for check in checks if check.passed is False), None)
    return checked if stopped is None else checked.reject(STAGE, stopped.gate, stopped.reason)


def _leak_check(gate: str, audit: Audit | None, limit: float) -> Check:
    if audit is None or audit.leakage is None:
        return Check(gate=gate, limit=limit, by="auditor", reason="not scored")
    check = Check(gate=gate, passed=True, score=audit.leakage, limit=limit, by="auditor")
    because = audit.why_it_leaks(limit)
    if not because:
        return check
    words = ", ".join(span.text for span in audit.query_spans[:3])
    return check.replace(passed=False, reason=because + (f": {words}" if words else ""))
