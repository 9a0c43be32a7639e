"""Small pictures for the pages: data URIs, decoded in worker threads, within a budget of bytes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from data.quality import UnusablePicture, in_plain_colour, opened

THREADS = 4
CHUNK = 64  # pictures decoded between two looks at the budget


def thumbnails(pictures: Sequence[Path | bytes | None], side: int, budget_bytes: int) -> list[str | None]:
    """A WebP data URI per picture, in order, until `budget_bytes` are used up; None where there is none."""
    made: list[str | None] = []
    used = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(pictures), CHUNK):
            chunk = pictures[start : start + CHUNK]
            if used >= budget_bytes or not any(chunk):
                made += [None] * len(chunk)
                continue
            for uri in pool.map(lambda picture: thumbnail(picture, side), chunk):
                used += len(uri or "")
                made.append(uri if used <= budget_bytes else None)
    return made


def thumbnail(picture: Path | bytes | None, side: int) -> str | None:
    """A picture at most `side` pixels wide and high as a data URI; None if it cannot be read as one."""
    if not picture:
        return None
    try:
        with opened(BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            image.draft("RGB", (2 * side, 2 * side))
            small = in_plain_colour(image)
    except UnusablePicture:
        return None
    small.thumbnail((side, side))
    buffer = BytesIO()
    small.save(buffer, format="WEBP", quality=60, method=2)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
