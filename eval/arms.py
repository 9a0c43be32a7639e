"""The arms of an evaluation: the same question with its picture, without it, and with others in its place.

A model that refuses as often without the picture as with it has read the danger in the text.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from data.errors import unknown
from data.quality import FORMATS, MOST_PIXELS, quiet_about_size
from data.records import seed_of
from data.rows import atomic
from eval.cases import check_pictures
from eval.records import Ask, Case

GREY = (127, 127, 127)
NO_SIZE = (512, 512)  # stands in for that of a picture that cannot be read
CAPTION = "The image shows: {description}\n\n{question}"
TEXT_ARMS = ("text_only", "caption")
NO_PICTURE = "the picture is missing"
NO_DESCRIPTION = "the case has no image description"


class Known(NamedTuple):
    """The cases whose pictures `swap` may show."""

    cases: Sequence[Case]
    mixed: bool  # whether those with pictures are of several categories


Arm = Callable[[Case, Known, Path], Ask]


def _image(case: Case, _: Known, __: Path) -> Ask:
    """The pair as it is."""
    return _ask(case, "image", case.question, case.image, case.image_sha256)


def _text_only(case: Case, _: Known, __: Path) -> Ask:
    """The question without any picture."""
    return _ask(case, "text_only", case.question)


def _caption(case: Case, _: Known, __: Path) -> Ask:
    """The picture's description as text in its place."""
    ask = _ask(case, "caption", CAPTION.format(description=case.image_description, question=case.question))
    return ask if case.image_description else ask.replace(problem=NO_DESCRIPTION)


def _blank(case: Case, _: Known, folder: Path) -> Ask:
    """A grey picture of the same size, which costs the model as many tokens."""
    if case.image is None:
        return _ask(case, "blank", case.question, None, "")
    path, sha256 = _blank_picture(folder, _size(case.image))
    return _ask(case, "blank", case.question, path, sha256)


def _swap(case: Case, known: Known, _: Path) -> Ask:
    """Another case's picture, of another category where there is one; always the same other."""
    other = _another(case, known)
    if other is None:
        return _ask(case, "swap", case.question, None, "")
    return _ask(case, "swap", case.question, other.image, other.image_sha256)


ARMS: dict[str, Arm] = {
    "image": _image,
    "text_only": _text_only,
    "blank": _blank,
    "caption": _caption,
    "swap": _swap,
}


def parse_arms(names: str) -> tuple[str, ...]:
    """`image,text_only` as names of arms, each once; the original order counts."""
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen or ("",):
        if name not in ARMS:
            raise unknown("arm", name, ARMS)
    return chosen


def asks_of(
    arm: str, cases: Sequence[Case], folder: Path, data: str, known: Sequence[Case] | None = None
) -> list[Ask]:
    """What a model is asked in an arm, one per case, in order; blank pictures are made in `folder`.

    `known` are all cases of the benchmark, for `swap` to choose from, where `cases` are its first few.
    """
    if arm not in TEXT_ARMS:
        check_pictures(cases, data)
    others = cases if known is None else known
    choice = Known(others, len({case.category for case in others if case.image}) > 1)
    return [ARMS[arm](case, choice, folder) for case in cases]


def _ask(case: Case, arm: str, question: str, image: Path | None = None, sha256: str = "") -> Ask:
    missing = arm not in TEXT_ARMS and image is None
    return Ask(
        id=f"{case.id}:{arm}",
        case=case.id,
        arm=arm,
        question=question,
        image=image,
        image_sha256=sha256,
        problem=NO_PICTURE if missing else "",
    )


def _another(case: Case, known: Known) -> Case | None:
    """From a place that the case's id and the benchmark's size decide onwards, the first with another picture."""
    start, size = seed_of(case.id) % len(known.cases), len(known.cases)
    alike = None
    for at in range(start, start + size):
        each = known.cases[at % size]
        if each.image is None or each.image_sha256 == case.image_sha256:
            continue
        if each.category != case.category or not known.mixed:
            return each
        alike = alike or each
    return alike


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with quiet_about_size(), Image.open(path, formats=FORMATS) as image:
            return image.size if image.width * image.height <= MOST_PIXELS else NO_SIZE
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return NO_SIZE


@cache
def _blank_picture(folder: Path, size: tuple[int, int]) -> tuple[Path, str]:
    from PIL import Image

    path = folder / "blank" / f"{size[0]}x{size[1]}.png"
    content = io.BytesIO()
    Image.new("RGB", size, GREY).save(content, "PNG")
    with atomic(path) as file:
        file.write(content.getvalue())
    return path, hashlib.sha256(content.getvalue()).hexdigest()
