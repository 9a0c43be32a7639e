"""The improvement loop (VLSBench, "Construction"): draw, have the picture judged, redraw, keep the best.

A critic captions a picture, scores how well it matches the description, and improves the prompt; the
prompt is drawn again, `rounds` times at most. Without a critic the best of several seeds is kept, by
image-text similarity. A black or blank picture is drawn again with another seed, and after
`retries` of them the pair is rejected with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import Field

from data.errors import RowFailed
from data.quality import Flaw
from data.records import Attempt, Drawing, Record, seed_of
from generate_images.drawn import Size
from generate_images.generators import Generator, plan
from generate_images.settings import LoopSettings


class Review(Record):
    """What a critic says of one picture."""

    caption: str
    match: float = Field(ge=0, le=1)
    improved_prompt: str = ""


class Case(NamedTuple):
    """A picture to judge: what it should show, and what it was drawn from."""

    image: Path
    description: str
    prompt: str
    attempt: int


class Critic(Protocol):
    """Judges pictures; `RowFailed` in the place of a review it could not give."""

    name: str

    def review(self, cases: Sequence[Case]) -> Sequence[Review | RowFailed]: ...


class Similarity(Protocol):
    """How well each picture fits its text; higher fits better, comparable for one text only."""

    name: str

    def similarity(self, images: Sequence[Path], texts: Sequence[str]) -> Sequence[float]: ...


class Subject(NamedTuple):
    """What is to be drawn: an id, a description, and a size where it matters."""

    id: str
    description: str
    size: Size | None = None


class Wanted(NamedTuple):
    """A picture to draw and the file it goes to."""

    drawing: Drawing
    path: Path


@dataclass
class Trial:
    """One subject's attempts so far, and the prompt for the next."""

    subject: Subject
    loop: LoopSettings
    judged: bool  # a critic takes part
    prompt: str
    drawings: list[Drawing] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    failed: RowFailed | None = None  # what ended the trial for now: a server's or the critic's failure
    hopeless: bool = False  # another seed would not help

    def next(self, generator: Generator) -> Drawing:
        seed = seed_of(self.subject.id, len(self.attempts))
        return plan(generator, self.prompt, seed, self.subject.size)

    def note(self, drawing: Drawing, image_path: str, problem_found: Flaw | RowFailed | None) -> None:
        """Record an attempt, or that nothing usable came of it."""
        self.drawings.append(drawing)
        path, problem = ("", problem_found.reason) if problem_found else (image_path, "")
        if isinstance(problem_found, RowFailed):
            self.failed = problem_found
        elif problem_found is not None:
            self.hopeless = not problem_found.another_seed
        attempt = Attempt(prompt=drawing.prompt, seed=drawing.seed, image_path=path, problem=problem)
        self.attempts.append(attempt)

    def judge(self, review: Review | RowFailed | None, similarity: float | None) -> None:
        """Add the verdicts on the latest picture; a critic without an answer leaves it unscored."""
        changes: dict[str, object] = {"similarity": similarity}
        if isinstance(review, RowFailed):
            self.failed = review
        elif review is not None:
            changes |= {"caption": review.caption, "match": review.match}
            self.prompt = review.improved_prompt.strip() or self.prompt
        self.attempts[-1] = self.attempts[-1].replace(**changes)

    @property
    def flawed(self) -> int:
        return sum(bool(attempt.problem) for attempt in self.attempts)

    def goes_on(self) -> bool:
        """Whether another attempt is due."""
        if self.failed or self.hopeless:
            return False
        pictures = len(self.attempts) - self.flawed
        if self.attempts[-1].problem:
            return self.flawed <= self.loop.retries
        if not self.judged:
            return pictures < self.loop.best_of
        match = self.attempts[-1].match
        return match is not None and match < self.loop.good_enough and pictures <= self.loop.rounds

    def best(self) -> int | None:
        """The place of the best attempt: one that passes, by match in tenths (critics are no finer), by similarity."""
        eligible = [
            place
            for place, attempt in enumerate(self.attempts)
            if not attempt.problem and (attempt.match is not None or not self.judged)
        ]
        return max(eligible, key=self._worth, default=None)

    def _worth(self, place: int) -> tuple[bool, float, float, float, int]:
        attempt = self.attempts[place]
        match = attempt.match or 0.0
        return not self.misses(place), round(match, 1), attempt.similarity or 0.0, match, -place

    def misses(self, place: int) -> bool:
        """Whether a critic found that this attempt's picture does not show the description."""
        match = self.attempts[place].match
        return match is not None and match < self.loop.least_match


class Outcome(NamedTuple):
    """What came of a subject: its picture's drawing, or why it was rejected, or why it failed for now."""

    subject: Subject
    drawing: Drawing | None = None
    best: Attempt | None = None
    rejected: Flaw | None = None
    failed: RowFailed | None = None


def outcome(trial: Trial) -> Outcome:
    """The best attempt with all of them on record; rejected when none is a picture, or none matches.

    Where a try failed, one of those still due might have matched: without a match the subject has failed.
    """
    place = trial.best()
    if trial.failed is not None and (place is None or trial.misses(place)):
        return Outcome(trial.subject, failed=trial.failed)
    if place is None:
        problem = trial.attempts[-1].problem
        tries = len(trial.attempts)
        detail = f"{problem} in the last of {tries} attempts" if tries > 1 else problem
        return Outcome(trial.subject, drawing=_recorded(trial, -1), rejected=Flaw(problem, detail))
    best, drawing = trial.attempts[place], _recorded(trial, place)
    if trial.misses(place):
        detail = f"best match {best.match:.2f} after {len(trial.attempts)} attempts"
        return Outcome(trial.subject, drawing, best, rejected=Flaw("mismatch", detail))
    return Outcome(trial.subject, drawing, best)


def _recorded(trial: Trial, place: int) -> Drawing:
    """A single attempt without a verdict needs no list of attempts."""
    attempts = tuple(trial.attempts)
    only = len(attempts) == 1 and attempts[0].match is None and attempts[0].similarity is None
    return trial.drawings[place].replace(attempts=() if only and not attempts[0].problem else attempts)
