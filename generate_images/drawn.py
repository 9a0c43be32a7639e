"""What a generator gives: a picture of a size, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from data.errors import RowFailed
from data.quality import Flaw

if TYPE_CHECKING:
    from PIL.Image import Image


class Size(NamedTuple):
    """A picture's width and height in pixels."""

    width: int
    height: int


class Drawn(NamedTuple):
    """A picture, or why there is none, and its place among the drawings asked for.

    A `Flaw` is the picture's own; a `RowFailed` has nothing to do with it, and a rerun tries again.
    """

    place: int
    image: Image | None
    problem: Flaw | RowFailed | None = None
