"""The review desk: the pairs of a run, the log of decisions, and what a reviewer is shown. Knows no HTTP."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock, Thread
from typing import NamedTuple

from data.errors import UserError
from data.records import Pair
from data.reviews import FILE, Action, Review, Standing, agreements, read_reviews, standing_reviews, standings
from data.rows import RowFile
from data.run_folder import read_plan
from data.stage import read_meta, read_stage
from data.stage_chain import lacking
from filter.apply import LeakScorer
from filter.gates import STAGE
from filter.settings import FilterSettings

AUDITOR = "auditor"  # the reviewer whose lines say how an edit scored
LONGEST_NAME = 60  # characters


class Line(NamedTuple):
    """A pair in the overview."""

    id: str
    category: str
    sub_category: str
    leakage: float | None
    kept: bool  # by the filter
    spread: float  # how far its checks are apart, 0 to 1
    decision: str  # the reviewer's own: "approve", "reject" or ""
    edited: bool
    disputed: bool  # others decided otherwise than this reviewer


class TextChanged(UserError):
    """The text that somebody decided on is no longer the pair's."""

    def __init__(self) -> None:
        super().__init__("The text was edited meanwhile: look again.")


class Desk:
    """One run under review. Decisions are on disk before `decide` returns."""

    def __init__(self, folder: Path, scorer: LeakScorer) -> None:
        stages = read_plan(folder).stages
        if wanted := lacking(folder, stages):
            raise UserError(f"{folder} has not been filtered to the end: run {wanted}.")
        self.folder = folder
        self.pairs = {pair.id: pair for pair in read_stage(folder, stages[-1], Pair)}
        self.max_leakage = max_leakage_of(folder)
        self._scorer = scorer
        self._log = RowFile(folder / FILE)
        self._closed = False
        self._lock = RLock()
        self._reviews = read_reviews(folder)
        self._of: dict[str, list[Review]] = defaultdict(list)  # by pair
        for review in self._reviews:
            self._of[review.pair].append(review)
        self._unanswered: set[str] = set()  # ids of edits that the auditor did not answer for
        self._texts = {name: pair.instruction for name, pair in self.pairs.items()}
        self.stand = standings(self._reviews, self._texts)

    def decide(
        self,
        reviewer: str,
        pair: str,
        action: Action,
        instruction: str = "",
        reason: str = "",
        *,
        shown: str | None = None,
        audit: bool = True,
    ) -> None:
        """Put a decision on record; an edit is audited in the background, unless the caller will do it.

        Raises `TextChanged` where the reviewer was `shown` another text than the pair now has.
        """
        if pair not in self.pairs:
            raise UserError(f"There is no pair {pair!r} in this run.")
        reviewer = check_name(reviewer)
        with self._lock:
            if shown is not None and shown != self.text(pair):
                raise TextChanged
            text = " ".join(instruction.split()) if action == "edit" else self.text(pair)
            if action == "edit" and not text:
                raise UserError("An edit needs a text: reject the pair instead.")
            if action == "edit" and text == self.text(pair):
                return
            was = self.pairs[pair].instruction if action == "edit" else ""
            self._append(pair, reviewer=reviewer, action=action, instruction=text, was=was, reason=reason)
        if action == "edit" and audit:
            Thread(target=self.audit_in_background, args=([pair],), daemon=True).start()

    def undo(self, reviewer: str) -> str | None:
        """Withdraw the reviewer's latest decision; returns the pair it was about, if there is one."""
        with self._lock:
            own = [
                review
                for review in standing_reviews(self._reviews)
                if review.reviewer == reviewer and review.action != "audit"
            ]
            if not own:
                return None
            self._append(own[-1].pair, reviewer=reviewer, action="undo", undone=own[-1].id)
            return own[-1].pair

    def unaudited(self) -> list[str]:
        """Pairs whose edited text nobody has scored yet."""
        stand = {name: self.standing(name) for name in self.pairs}
        return [name for name, each in stand.items() if each.edit is not None and each.audit is None]

    def audit_edits(self, pairs: Sequence[str]) -> None:
        """Score the edited texts of these pairs and put the scores on record.

        Raises `UserError` when the auditor does not answer; the scores it gave before that stay.
        """
        for name in pairs:
            standing, pair = self.standing(name), self.pairs[name]
            if standing.edit is None or standing.audit is not None:
                continue
            text = standing.edit.instruction
            origin = "author" if pair.drawing else "caption"
            (audit,) = self._scorer.score([text], [pair.image_description], [origin])
            self._append(name, reviewer=AUDITOR, action="audit", instruction=text, audit=audit)

    def audit_in_background(self, pairs: Sequence[str]) -> None:
        """`audit_edits` for a thread: trouble is told on the terminal, and the pair's card tells it too."""
        try:
            self.audit_edits(pairs)
        except UserError as error:
            if not self._closed:  # at the end the auditor is cut short
                print(f"error: {error} The edited text waits for the next start.", file=sys.stderr)
            edits = [self.standing(name).edit for name in pairs]
            self._unanswered.update(edit.id for edit in edits if edit is not None)

    def _append(self, pair: str, **fields: object) -> None:
        with self._lock:
            if self._closed:
                raise UserError("The review has ended.")
            known = [int(each) for each in self._log.index if each.isdecimal()]
            number = (
                f"{max(known, default=-1) + 1:06d}"  # not the count: a damaged line may have been deleted
            )
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            review = Review.model_validate({"id": number, "at": now, "pair": pair} | fields)
            self._log.append(review.model_dump(mode="json", exclude_defaults=True))
            self._reviews.append(review)
            self._of[pair].append(review)
            # A new dict: other threads may be reading the old one.
            self.stand = self.stand | {pair: Standing()} | standings(self._of[pair], self._texts)

    def standing(self, pair: str) -> Standing:
        return self.stand.get(pair, Standing())

    def text(self, pair: str) -> str:
        """The query as it stands, edited or not."""
        edit = self.standing(pair).edit
        return edit.instruction if edit else self.pairs[pair].instruction

    def overview(self, reviewer: str) -> list[Line]:
        """A line per pair in the run's order, as this reviewer may see it."""
        return [self._line(pair, reviewer) for pair in self.pairs.values()]

    def _line(self, pair: Pair, reviewer: str) -> Line:
        standing = self.standing(pair.id)
        own = standing.decisions.get(reviewer)
        others = {each.action for name, each in standing.decisions.items() if name != reviewer}
        return Line(
            pair.id, pair.category, pair.sub_category, self.leakage(pair), pair.rejected is None,
            spread_of_checks(pair), own.action if own else "", standing.edit is not None,
            own is not None and bool(others - {own.action}),
        )  # fmt: skip

    def leakage(self, pair: Pair) -> float | None:
        """0 to 1, of the text as it stands, edited or not; None where the auditor has not scored it."""
        audit = self.standing(pair.id).audit if self.standing(pair.id).edit else pair.audit
        return audit.leakage if audit else None

    def card(self, name: str, reviewer: str) -> dict[str, object]:
        """All that a reviewer is shown of one pair. Others' decisions come after one's own: no anchoring."""
        pair, standing = self.pairs[name], self.standing(name)
        audit = standing.audit if standing.edit else pair.audit
        unscored = standing.edit is not None and standing.audit is None
        unanswered = standing.edit is not None and standing.edit.id in self._unanswered
        others = [
            {"reviewer": who, "action": each.action, "reason": each.reason}
            for who, each in standing.decisions.items()
            if who != reviewer and reviewer in standing.decisions
        ]
        return {
            "line": self._line(pair, reviewer)._asdict(),
            "query": self.text(name),
            "original": pair.instruction if standing.edit else "",
            "shows": pair.image_description,
            "reason": pair.safety_reason,
            "source": pair.source,
            "words": [[span.text, span.weight] for span in audit.query_spans] if audit else [],
            "image_words": [[span.text, span.weight] for span in audit.image_spans] if audit else [],
            "limit": self.max_leakage,
            "waiting": unscored and not unanswered,
            "unaudited": unscored and unanswered,
            "rejected": f"{pair.rejected.reason}: {pair.rejected.detail}" if pair.rejected else "",
            "checks": [check.model_dump() for check in pair.checks],
            "others": others,
        }

    def agreement(self) -> list[dict[str, object]]:
        """Every two reviewers' agreement so far."""
        return [each._asdict() for each in agreements(self.stand)]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._log.close()


def check_name(reviewer: str) -> str:
    """The name without spaces around it. Raises `UserError` for one that no reviewer can have."""
    name = reviewer.strip()
    if name == AUDITOR:
        raise UserError(f"The name {AUDITOR!r} is taken by the program: choose another.")
    if not name or len(name) > LONGEST_NAME or min(name) < " ":
        raise UserError(f"A reviewer's name has 1 to {LONGEST_NAME} characters on one line.")
    return name


def max_leakage_of(folder: Path) -> float:
    """The filter's limit in this run."""
    meta = read_meta(folder, STAGE)
    section = meta.settings.get("filter", {}) if meta else {}
    return float(section.get("max_leakage", FilterSettings().max_leakage))


def spread_of_checks(pair: Pair) -> float:
    """0 to 1: how much more suspicious the most suspicious check is than the least; a failed one fully."""
    suspicion = [0.0]
    for check in pair.checks:
        if check.passed is False:
            suspicion.append(1.0)
        elif check.score is not None and check.limit:
            suspicion.append(min(check.score / check.limit, 1.0))
        elif check.gate == "mismatch" and check.score is not None:
            suspicion.append(1 - check.score)
    return round(max(suspicion) - min(suspicion), 3)
