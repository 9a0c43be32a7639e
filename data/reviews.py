"""What people decided: `reviews.jsonl`, one line per decision, appended at once and never changed.

{"id": "000007", "pair": "5f0c6a1b9d3e", "reviewer": "Ada", "action": "reject", "reason": "off topic",
 "instruction": "What should I say next ...", "at": "2026-05-04T12:30:05Z"}

`instruction` is the text that was decided on, for an edit the new one: a decision on a text that was
edited since counts no more, and no edit of a text that the pipeline has rewritten since. A line `undo`
withdraws an earlier line, a line `audit` says how an edit scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from data.records import Audit, Check, Pair, Record
from data.rows import read_records

FILE = "reviews.jsonl"
STAGE = "review"
Action = Literal["approve", "reject", "edit", "undo", "audit"]


class Review(Record):
    """One line: who did what to which pair."""

    id: str  # its number in the file
    pair: str
    reviewer: str
    action: Action
    reason: str = ""
    instruction: str = ""
    was: str = ""  # of an edit: the pair's own text, which it takes the place of
    undone: str = ""  # of an undo: the id of the line it withdraws
    audit: Audit | None = None  # of an audit: what the auditor says of `instruction`
    at: str = ""  # UTC


@dataclass
class Standing:
    """How a pair stands after all reviews: its edited text, if any, and each reviewer's decision on it."""

    edit: Review | None = None
    audit: Audit | None = None  # of the edited text
    decisions: dict[str, Review] = field(default_factory=dict)

    def count(self, action: Action) -> int:
        """How many reviewers decided so."""
        return sum(review.action == action for review in self.decisions.values())


def read_reviews(folder: Path) -> list[Review]:
    """All lines of a run's reviews, in order; none where nobody has reviewed."""
    path = folder / FILE
    return list(read_records(path, Review)) if path.exists() else []


def reviewer_numbers(reviews: Sequence[Review]) -> dict[str, int]:
    """People in the order they first appear, from 1: what is published knows them by number only."""
    people = dict.fromkeys(review.reviewer for review in reviews if review.action != "audit")
    return {name: number for number, name in enumerate(people, start=1)}


def standing_reviews(reviews: Sequence[Review]) -> list[Review]:
    """Those that nobody has withdrawn."""
    withdrawn = {review.undone for review in reviews if review.action == "undo"}
    return [review for review in reviews if review.action != "undo" and review.id not in withdrawn]


def standings(reviews: Sequence[Review], texts: Mapping[str, str]) -> dict[str, Standing]:
    """Pair id -> how it stands. `texts` are the pairs' texts before any edit."""
    result: dict[str, Standing] = {}
    for review in standing_reviews(reviews):
        standing = result.setdefault(review.pair, Standing())
        if review.action == "edit" and review.was in ("", texts.get(review.pair, "")):
            standing.edit, standing.audit = review, None
    for review in standing_reviews(reviews):
        standing = result[review.pair]
        text = standing.edit.instruction if standing.edit else texts.get(review.pair, "")
        if review.instruction != text:
            continue
        if review.action == "audit":
            standing.audit = review.audit
        elif review.action in ("approve", "reject"):
            standing.decisions[review.reviewer] = review
    return result


def apply_reviews(
    pairs: Sequence[Pair], reviews: Sequence[Review], max_leakage: float, *, reviewed_only: bool = False
) -> list[Pair]:
    """The pairs in their order, edited and rejected as people decided.

    A pair goes when at least as many reviewers reject it as approve it. An edited text enters only when
    the auditor has scored it at most `max_leakage` without flagging it, and no more harmful than the filter
    lets pass. With `reviewed_only`, only approved pairs stay.
    """
    stand = standings(reviews, {pair.id: pair.instruction for pair in pairs})
    return [
        pair if pair.rejected else _applied(pair, stand.get(pair.id, Standing()), max_leakage, reviewed_only)
        for pair in pairs
    ]


def _applied(pair: Pair, standing: Standing, max_leakage: float, reviewed_only: bool) -> Pair:
    against, favour = standing.count("reject"), standing.count("approve")
    if against and against >= favour:
        said = "; ".join(each.reason for each in standing.decisions.values() if each.action == "reject")
        return pair.reject(
            STAGE, "rejected_by_people", f"{against} against, {favour} for: {said or 'no reason'}"
        )
    if standing.edit is not None:
        pair = _edited(pair, standing, max_leakage)
    if pair.rejected is None and reviewed_only and not favour:
        return pair.reject(STAGE, "not_reviewed", "nobody has approved it")
    return pair


def _edited(pair: Pair, standing: Standing, max_leakage: float) -> Pair:
    """The pair with its edited text, if that has passed the auditor anew."""
    assert standing.edit is not None
    audit = standing.audit
    edited = pair.replace(
        instruction=standing.edit.instruction,
        audit=audit,
        checks=tuple(_after_edit(check, audit, max_leakage) for check in pair.checks),
    )
    if audit is None or audit.leakage is None:
        because = (audit and audit.unscored_because) or "start filter.review again: it audits what is left"
        return edited.reject(STAGE, "edit_not_audited", because)
    if because := audit.why_it_leaks(max_leakage):
        return edited.reject(STAGE, "edit_leaks", f"the edited text leaks: {because}")
    harm = edited.check("still_harmful")
    if harm is not None and harm.passed is False:
        return edited.reject(STAGE, "edit_harmful", harm.reason)
    return edited


def _after_edit(check: Check, audit: Audit | None, limit: float) -> Check:
    """A check of the old text is none of the new one: the auditor's is made again, an MLLM's lapses."""
    if check.gate == "leak" and audit is not None and audit.leakage is not None:
        because = audit.why_it_leaks(limit)
        return check.replace(score=audit.leakage, limit=limit, passed=not because, reason=because)
    if check.gate == "still_harmful" and audit is not None and audit.text_harm is not None:
        harmful = check.limit is not None and audit.text_harm > check.limit
        says = f"harm of the edited text alone {audit.text_harm:.2f} is above {check.limit}"
        return check.replace(
            score=audit.text_harm, passed=not harmful, by="auditor", reason=says if harmful else ""
        )
    if check.gate in ("mismatch", "not_risky", "leak_in_image", "near_duplicate_text"):
        return Check(gate=check.gate, reason="the text was edited since; people have seen the pair")
    return check


class Agreement(NamedTuple):
    """Two reviewers on the pairs both decided: the share they agree on, and Cohen's kappa."""

    one: str
    other: str
    pairs: int
    share: float
    kappa: float | None  # None where it is not defined: both said the same of every pair


def agreements(stand: Mapping[str, Standing]) -> list[Agreement]:
    """Every two reviewers who decided on pairs in common."""
    names = sorted({name for standing in stand.values() for name in standing.decisions})
    found = []
    for one, other in combinations(names, 2):
        both = [
            (standing.decisions[one].action == "approve", standing.decisions[other].action == "approve")
            for standing in stand.values()
            if one in standing.decisions and other in standing.decisions
        ]
        if both:
            found.append(Agreement(one, other, len(both), *cohens_kappa(both)))
    return found


def cohens_kappa(both: Iterable[tuple[bool, bool]]) -> tuple[float, float | None]:
    """(share agreed on, kappa) of two raters' yes and no (Cohen 1960); None when chance agrees fully."""
    votes = list(both)
    agreed = sum(one == other for one, other in votes) / len(votes)
    first = sum(one for one, _ in votes) / len(votes)
    second = sum(other for _, other in votes) / len(votes)
    chance = first * second + (1 - first) * (1 - second)
    return agreed, None if chance == 1 else (agreed - chance) / (1 - chance)
