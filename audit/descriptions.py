"""What each row's image shows and how that is known: described by its authors, read off it, or captioned.

    describe(rows, eyes, problems)
    -> [Content(text="Steps to fly a kite.", origin="ocr"), Content(missing="its caption failed (refused)"), ...]

Words are all there is to a picture when its lines cover two fifths of it, or when what lies outside of them
is one colour; anything else may show what no word in it says (a shop sign does not tell what happens before
the shop), so a captioner is asked where there is one, and without one the row says that only its words were
read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data.errors import RowFailed
from data.pages.page import plural

if TYPE_CHECKING:
    from audit.captions import Captioner
    from audit.pictures import Looker
    from data.llm.cache import ResponseCache
    from data.ocr import Reading
    from data.sources.source_rows import Source, SourceRow

COVERED = 0.4  # of a picture's area, by its lines
PLAIN = 0.95  # of what lies outside of them, in one colour
WORD = re.compile(r"[^\W\d_]{2,}")
ONLY_WORDS = "only the words in it were read: the rest of the picture was not looked at"
CUT = "compared by the beginning of the query alone: it is too long"


class Content(NamedTuple):
    """What a picture shows; `text` is None where nobody knows, and `missing` says why."""

    text: str | None = None
    origin: str | None = None  # author, ocr or caption
    missing: str = ""
    note: str = ""  # what a reader of the row should know of it
    similarity: float | None = None  # of query and picture, in standard deviations; see audit/likeness.py

    @property
    def made(self) -> str | None:
        """The text where it is of our making."""
        return self.text if self.origin in ("ocr", "caption") else None


class Eyes(NamedTuple):
    """What pictures are looked at with; None for what is not at hand."""

    cache: ResponseCache
    reader: Looker | None = None  # of words
    captioner: Captioner | None = None
    blind: str = ""  # why nothing can read words


def describe(rows: Sequence[SourceRow], eyes: Eyes, problems: Mapping[str, str]) -> list[Content]:
    """One `Content` per row, in order. `problems` says of a row's id why its image was not found.

    Rows without a query are not looked at: they could not be scored, and a caption costs.
    """
    contents = [_given(row, problems) for row in rows]
    open_rows = [
        at for at, (row, content) in enumerate(zip(rows, contents, strict=True))
        if content.text is None and row.image and row.query.strip()
    ]  # fmt: skip
    paths = {at: Path(rows[at].image or "") for at in open_rows}
    read = _read(list(paths.values()), eyes)
    unread = [path for path, reading in read.items() if not _says_all(reading)]
    captions = eyes.captioner.caption(unread) if eyes.captioner and unread else {}
    for at, path in paths.items():
        contents[at] = _seen(read[path], captions.get(path), eyes)
    return contents


def problems_of(source: Source) -> dict[str, str]:
    """Why the image of a row was not found, by the row's id."""
    found = [note for note in source.notes if note.reason.startswith(("its image", "its embedded image"))]
    return {row: note.reason for note in found for row in note.rows}


def _given(row: SourceRow, problems: Mapping[str, str]) -> Content:
    if (row.image_description or "").strip():
        return Content(row.image_description, "author")
    if row.image:
        return Content(missing="nobody looked at its picture")
    why = problems.get(row.id)
    return Content(missing=f"no description, and {why}" if why else "neither a description nor an image")


def _read(paths: Sequence[Path], eyes: Eyes) -> dict[Path, Reading | RowFailed | None]:
    """What can be read in each picture; None where nothing can read."""
    from audit.pictures import contents_of, look_at
    from data.ocr import Reading

    if eyes.reader is None:
        return {
            path: seen if isinstance(seen, RowFailed) else None for path, seen in contents_of(paths).items()
        }
    return {
        path: seen if isinstance(seen, RowFailed) else Reading.model_validate_json(seen)
        for path, seen in look_at(paths, eyes.reader, eyes.cache, "read").items()
    }


def _says_all(reading: Reading | RowFailed | None) -> bool:
    """Whether there is nothing left to ask a captioner: words are all there is, or it is no picture."""
    if reading is None or isinstance(reading, RowFailed):
        return isinstance(reading, RowFailed)
    return has_words(reading) and (reading.share >= COVERED or reading.plain >= PLAIN)


def has_words(reading: Reading) -> bool:
    """Whether there is a word of two letters or more."""
    return WORD.search(reading.text) is not None


def _seen(reading: Reading | RowFailed | None, caption: str | RowFailed | None, eyes: Eyes) -> Content:
    """What came of one picture."""
    if isinstance(reading, RowFailed):
        return Content(missing="its picture cannot be read", note=reading.detail)
    if isinstance(caption, str):
        return Content(caption, "caption")
    if reading is not None and _says_all(reading):
        return Content(reading.text, "ocr")
    failed = f"its caption failed ({caption.reason})" if caption else ""
    if reading is not None and has_words(reading):
        return Content(reading.text, "ocr", note="; ".join(filter(None, (ONLY_WORDS, failed))))
    if caption:
        return Content(missing=failed, note=caption.detail)
    words = eyes.blind or "no words can be read in its picture"
    return Content(missing=f"no description, {words}, and there is no --captioner")


def cautions(contents: Sequence[Content]) -> Iterator[str]:
    """What a reader of the figures should know of how pictures were looked at."""
    notes = Counter(part for content in contents for part in content.note.split("; "))
    if number := notes[ONLY_WORDS]:
        yield (
            f"In {plural(number, 'row')} only the words in the picture were read, and there is more to see: a "
            "low score says little there; name a --captioner."
        )
    if number := notes[CUT]:
        yield (
            f"In {plural(number, 'row')} the query is longer than the image-similarity model reads: the "
            "similarity is that of its beginning."
        )
