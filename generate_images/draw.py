"""Stage `draw`: pictures for pairs, each at `images/<id>.png` with its origin inside.

Where a pair has several attempts they lie at `images/attempts/<id>.<n>.png`, and `images/<id>.png`
is the best of them. A picture that is there already, drawn just so, is not drawn again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import RowFailed
from data.quality import Flaw
from data.records import Pair
from generate_images.drawn import Drawn
from generate_images.generators import Generator, Stream, stream
from generate_images.improve import (
    Case,
    Critic,
    Outcome,
    Review,
    Similarity,
    Subject,
    Trial,
    Wanted,
    outcome,
)
from generate_images.settings import LoopSettings
from generate_images.writer import Writer, check_space, is_drawn


@dataclass(frozen=True)
class Studio:
    """All that drawing takes: the generator, who judges its pictures, and where they go."""

    generator: Generator
    folder: Path
    loop: LoopSettings = field(default_factory=LoopSettings)
    critic: Critic | None = None
    similarity: Similarity | None = None
    suffix: str = ".png"

    @property
    def judges(self) -> bool:
        return self.critic is not None or self.similarity is not None

    def place(self, identity: str, attempt: int) -> str:
        """Where an attempt goes, relative to the folder."""
        several = self.judges or self.loop.best_of > 1
        name = f"attempts/{identity}.{attempt}" if several else identity
        return f"images/{name}{self.suffix}"


def draw_pairs(
    pairs: Sequence[Pair],
    generator: Generator,
    folder: Path,
    loop: LoopSettings = LoopSettings(),  # noqa: B008 - frozen
    critic: Critic | None = None,
    similarity: Similarity | None = None,
) -> list[Pair | RowFailed]:
    """The pairs with their pictures drawn into `folder/images`; one without a usable picture is rejected."""
    studio = Studio(generator, folder, loop, critic, similarity)
    subjects = [Subject(pair.id, pair.image_description) for pair in pairs]
    drawn = draw_subjects(subjects, studio)
    return [_pair(pair, each, studio) for pair, each in zip(pairs, drawn, strict=True)]


def _pair(pair: Pair, drawn: Outcome, studio: Studio) -> Pair | RowFailed:
    if drawn.failed is not None:
        return drawn.failed
    path, drawing = "", drawn.drawing
    if drawn.best and drawing:
        path = picture_path(drawn, studio)
        drawing = drawing.replace(sha256=_sha256(studio.folder / path))
    pair = pair.replace(image_path=path, drawing=drawing)
    return pair.reject("draw", drawn.rejected.reason, drawn.rejected.detail) if drawn.rejected else pair


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def picture_path(drawn: Outcome, studio: Studio) -> str:
    """The subject's own file, relative to the folder; the best attempt gets that name too."""
    assert drawn.best is not None
    path = f"images/{drawn.subject.id}{studio.suffix}"
    if drawn.best.image_path != path:
        _link(studio.folder / drawn.best.image_path, studio.folder / path)
    return path


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy on file systems without hard links."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)


def draw_subjects(subjects: Sequence[Subject], studio: Studio) -> list[Outcome]:
    """Every subject drawn, judged and redrawn until it is done; those left share each round's batches."""
    judged = studio.critic is not None
    trials = [Trial(subject, studio.loop, judged, subject.description) for subject in subjects]
    left = trials
    with Writer() as writer:
        while left:
            _one_round(left, studio, writer)
            left = [trial for trial in left if trial.goes_on()]
    return [outcome(trial) for trial in trials]


def _one_round(trials: Sequence[Trial], studio: Studio, writer: Writer) -> None:
    """One attempt for each trial, and what the critic and the similarity model make of it."""
    wanted, paths = [], []
    for trial in trials:
        path = studio.place(trial.subject.id, len(trial.attempts))
        wanted.append(Wanted(trial.next(studio.generator), studio.folder / path))
        paths.append(path)
    problems = draw_files(wanted, studio.generator, writer)
    for trial, want, path, problem in zip(trials, wanted, paths, problems, strict=True):
        trial.note(want.drawing, path, problem)
    seen = [trial for trial, problem in zip(trials, problems, strict=True) if problem is None]
    if studio.judges and seen:
        _judge(seen, studio)


def draw_files(
    wanted: Sequence[Wanted], generator: Generator, writer: Writer
) -> list[Flaw | RowFailed | None]:
    """Draw what is not there yet; for each, what kept its picture from being drawn and written."""
    problems: list[Flaw | RowFailed | None] = [None] * len(wanted)
    missing = [place for place, want in enumerate(wanted) if not is_drawn(want.path, want.drawing)]
    drawings = [wanted[place].drawing for place in missing]
    if drawings:
        check_space(wanted[0].path.parent, drawings)
    writing: dict[int, Future[Flaw | None]] = {}

    def take(drawn: Drawn) -> None:
        place = missing[drawn.place]
        problems[place] = drawn.problem
        if drawn.problem is None and drawn.image is not None and place not in writing:
            writing[place] = writer.submit(drawn.image, wanted[place].path, wanted[place].drawing)

    _take_all(stream(generator, drawings), take)
    for place in missing:
        if place in writing:
            problems[place] = writing[place].result()
        elif problems[place] is None:
            problems[place] = RowFailed("no_image", "the generator gave no picture")
    return problems


def _take_all(arriving: Stream, take: Callable[[Drawn], None]) -> None:
    """Take each picture; after Ctrl-C those that the stream, being told of it, still gives, maybe one of them again."""
    try:
        for drawn in arriving:
            take(drawn)
    except KeyboardInterrupt as stopped:
        take(arriving.throw(stopped))  # raises at once where there is nothing left to give
        for drawn in arriving:
            take(drawn)
        raise


def _judge(trials: Sequence[Trial], studio: Studio) -> None:
    """Ask the critic and the similarity model, whichever there are, about each trial's latest picture."""
    cases = [
        Case(
            image=studio.folder / trial.attempts[-1].image_path,
            description=trial.subject.description,
            prompt=trial.attempts[-1].prompt,
            attempt=len(trial.attempts) - 1,
        )
        for trial in trials
    ]
    fits: Sequence[float | None] = [None] * len(cases)
    if studio.similarity is not None:
        images, texts = [case.image for case in cases], [case.description for case in cases]
        fits = studio.similarity.similarity(images, texts)
    reviews: Sequence[Review | RowFailed | None] = [None] * len(cases)
    if studio.critic is not None:
        reviews = studio.critic.review(cases)
    for trial, review, fit in zip(trials, reviews, fits, strict=True):
        trial.judge(review, fit)
