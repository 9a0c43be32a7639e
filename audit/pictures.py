"""What models made of pictures, kept on disk: a second audit looks at no picture twice.

A row of the cache is known by who looked (a model with its revision and its prompt) and by the SHA-256 of
the picture's content, so that a moved or repeated picture counts as seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from data.decoding import decoded_ahead, digests
from data.errors import RowFailed
from data.llm.cache import ResponseCache
from data.progress import StageProgress

if TYPE_CHECKING:
    from PIL.Image import Image

Look = Callable[[Sequence["Image"]], Sequence[str | RowFailed]]  # pictures -> what is made of each, as text
FILE = "pictures.sqlite"


class Looker:
    """A model that makes a text of a picture; loaded when there is a picture it has not seen."""

    def __init__(self, name: str, load: Callable[[], Look], *, batch_size: int, max_pixels: int) -> None:
        self.name = name  # with all that its answers depend on
        self.batch_size, self.max_pixels = batch_size, max_pixels
        self._load = load
        self._look: Look | None = None

    def look(self, images: Sequence[Image]) -> Sequence[str | RowFailed]:
        if self._look is None:
            self._look = self._load()
        return self._look(images)


def known(cache: ResponseCache, name: str, what: str) -> str | None:
    """What `name` made of something, if it has been asked before."""
    return cache.get(_key(name, what))


def keep(cache: ResponseCache, name: str, what: str, made: str) -> None:
    """Remember what `name` made of something."""
    cache.put(_key(name, what), made, stage="audit")


def _key(name: str, what: str) -> str:
    return hashlib.sha256(f"{name}\0{what}".encode()).hexdigest()


def contents_of(paths: Sequence[Path]) -> dict[Path, str | RowFailed]:
    """What each distinct picture is known by: the SHA-256 of its content."""
    distinct = list(dict.fromkeys(paths))
    return dict(zip(distinct, digests(distinct), strict=True))


def look_at(
    paths: Sequence[Path], looker: Looker, cache: ResponseCache, label: str
) -> dict[Path, str | RowFailed]:
    """What `looker` makes of each distinct picture, or why it makes nothing; failures are not kept."""
    content = contents_of(paths)
    made: dict[str, str | RowFailed] = {}
    first = {digest: path for path, digest in reversed(content.items()) if isinstance(digest, str)}
    for digest in first:
        if (stored := known(cache, looker.name, digest)) is not None:
            made[digest] = stored
    todo = {path: digest for digest, path in first.items() if digest not in made}
    if todo:
        with StageProgress(label, len(first), len(made)) as progress:
            pictures = decoded_ahead(todo, looker.max_pixels)
            while batch := list(islice(pictures, looker.batch_size)):
                for path, answer in _look_at_batch(batch, looker).items():
                    made[todo[path]] = answer
                    if isinstance(answer, str):
                        keep(cache, looker.name, todo[path], answer)
                progress.advance(len(batch))
    return {path: made[key] if isinstance(key, str) else key for path, key in content.items()}


def _look_at_batch(
    batch: Sequence[tuple[Path, Image | RowFailed]], looker: Looker
) -> dict[Path, str | RowFailed]:
    answers: dict[Path, str | RowFailed] = {
        path: image for path, image in batch if isinstance(image, RowFailed)
    }
    seen = [(path, image) for path, image in batch if not isinstance(image, RowFailed)]
    if seen:
        looked = looker.look([image for _, image in seen])
        answers |= dict(zip((path for path, _ in seen), looked, strict=True))
    return answers
