"""Pictures decoded in worker threads ahead of the model that looks at them, a few at a time."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from data.errors import RowFailed
from data.quality import UnusablePicture, in_plain_colour, opened, within

if TYPE_CHECKING:
    from PIL.Image import Image

THREADS = 2
AHEAD = 16  # pictures decoded before they are asked for, at most

In = TypeVar("In")
Out = TypeVar("Out")


def in_colour(path: Path, max_pixels: int) -> Image:
    """The picture upright in RGB, transparency on white, downscaled to the limit. Raises `RowFailed`."""
    try:
        with opened(path) as image:
            return within(in_plain_colour(image), max_pixels)
    except UnusablePicture as error:
        raise RowFailed("unreadable_image", str(error)) from error


def decoded_ahead(paths: Iterable[Path], max_pixels: int) -> Iterator[tuple[Path, Image | RowFailed]]:
    """Each path with its picture, or with why there is none, in order."""
    yield from ahead(lambda path: (path, _or_failure(in_colour, path, max_pixels)), paths)


def digests(paths: Sequence[Path]) -> Iterator[str | RowFailed]:
    """The SHA-256 of each file's content, in order: what a picture is known by."""
    yield from ahead(lambda path: _or_failure(_digest, path), paths)


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RowFailed("unreadable_image", error.strerror or type(error).__name__) from error


def _or_failure(work: Callable[..., Out], *values: object) -> Out | RowFailed:
    try:
        return work(*values)
    except RowFailed as failure:
        return failure


def ahead(work: Callable[[In], Out], inputs: Iterable[In]) -> Iterator[Out]:
    """Results in order, made in threads; at most `AHEAD` are begun before they are asked for."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
    begun: deque[Future[Out]] = deque()
    try:
        for each in inputs:
            begun.append(pool.submit(work, each))
            if len(begun) >= AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
