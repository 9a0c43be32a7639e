"""The rows of a benchmark that somebody else made, and what a user should know of them.

One `SourceRow`, as JSON:

    {"id": "7", "query": "...", "image_description": "A kite over a beach", "image": "/data/bench/imgs/7.png",
     "image_key": "imgs/7.png", "category": "Outdoors", "sub_category": "", "is_safe": null}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from data.errors import UserError
from data.records import Record
from data.sources.columns import Columns, Raw, cell, clean, text_of, truth_of
from data.sources.paths import ImageFolders, find_image, image_folders
from data.sources.tables import Table

# What tools write into an empty cell of text, and spreadsheets into one that they took for a formula.
NOTHING = ("", "nan", "none", "null", "n/a", "<na>", "#n/a",
           "#name?", "#null!", "#num!", "#ref!", "#value!", "#div/0!")  # fmt: skip


class SourceRow(Record):
    """One image-text row of somebody's benchmark."""

    id: str  # unique within the source
    query: str  # "" where the row has none
    image_description: str | None = None
    image: str | None = None  # absolute path of an existing file inside the data folder
    image_key: str  # equal for rows that share an image: what intervals are clustered by
    category: str = ""
    sub_category: str = ""
    is_safe: bool | None = None  # True: by the authors' label a harmless twin, which should be answered


class Note(Record):
    """Something that a user should know of some rows, or of the source where there are no rows."""

    reason: str
    rows: tuple[str, ...] = ()  # ids
    example: str = ""  # what the first of these rows has in place of what was expected


class Source(Record):
    """A benchmark that was read, the columns it was read from, and what was wrong with it."""

    name: str
    columns: Columns
    rows: tuple[SourceRow, ...]
    notes: tuple[Note, ...] = ()
    benchmark: str | None = None  # the layout, where one of audit/benchmarks.py was used


class Part(NamedTuple):
    """A table with the columns to read it by."""

    table: Table
    columns: Columns


def build_source(
    name: str,
    parts: list[Part],
    root: Path,
    folders: tuple[str, ...],
    unpack_to: Path | None,
    notes: Notes | None = None,
    *,
    apart: bool = False,
) -> Source:
    """Rows of every part, in order; `folders` are tried for images, relative to each part's own folder.

    `apart`: the images may lie apart from the data, so `root` is tried as well.
    """
    notes = notes or Notes()
    rows: list[SourceRow] = []
    seen: dict[str, int] = {}
    for table, columns in parts:
        for remark in table.remarks:
            notes.add(remark)
        bases = _bases(table.folder, root) if apart else [table.folder]
        where = image_folders(root, (base / folder for base in bases for folder in folders), unpack_to)
        prefix = f"{clean(table.name)}-" if len(parts) > 1 else ""
        found = list(_rows(table.rows(), columns, where, prefix, seen, notes))
        if columns != parts[0].columns:  # those are what the user is told
            for row in found:
                notes.add(f"read by other columns: {columns.spelt()}", row.id, table.name)
        rows.extend(found)
    if not rows:
        raise UserError(f"{name} holds no rows.")
    return Source(name=clean(name), columns=parts[0].columns, rows=tuple(rows), notes=notes.found())


def _bases(folder: Path, root: Path) -> list[Path]:
    """What image paths may be relative to: the data's own folder where it lies in the root, then the root."""
    inside = folder.resolve().is_relative_to(root.resolve())
    return [folder, root] if inside else [root]


def _rows(
    raws: Iterable[Raw],
    columns: Columns,
    where: ImageFolders,
    prefix: str,
    seen: dict[str, int],
    notes: Notes,
) -> Iterator[SourceRow]:
    for position, raw in enumerate(raws):
        given = text_of(cell(raw, columns.id)) or f"{prefix}{position}"
        identity = _unique(given, prefix, seen)
        if identity != given:
            notes.add("its id is another row's too: it was made longer", identity, given)
        yield _row(raw, identity, columns, where, notes)


def _row(raw: Raw, identity: str, columns: Columns, where: ImageFolders, notes: Notes) -> SourceRow:
    image = find_image(cell(raw, columns.image), where)
    asked = cell(raw, columns.query)
    query = text_of(asked)
    description = text_of(cell(raw, columns.image_description)) or None
    safety = text_of(cell(raw, columns.is_safe))
    is_safe = truth_of(safety)
    if image.problem:
        notes.add(image.problem, identity, image.key)
    if isinstance(asked, (list, tuple)) and sum(isinstance(each, str) for each in asked) > 1:
        notes.add("its query is a list of several texts: they were joined", identity, query)
    if query.lower() in NOTHING:
        notes.add("it has no query", identity, query)
        query = ""
    if description and description.lower() in NOTHING:
        notes.add("its description says that there is none", identity, description)
        description = None
    if safety and is_safe is None:
        notes.add("whether it is safe is neither true nor false: it counts as any other", identity, safety)
    key = text_of(cell(raw, columns.image_key)) or image.key
    return SourceRow(
        id=identity,
        query=query,
        image_description=description,
        image=image.path,
        image_key=key or _key_of_text(description) or identity,
        category=text_of(cell(raw, columns.category)),
        sub_category=text_of(cell(raw, columns.sub_category)),
        is_safe=is_safe,
    )


def _key_of_text(description: str | None) -> str:
    """Rows without images but with one description are taken to share an image: the careful guess."""
    return hashlib.sha256(description.encode()).hexdigest()[:16] if description else ""


def _unique(identity: str, prefix: str, seen: dict[str, int]) -> str:
    """The id itself the first time, then with its table's name, then id#2, id#3 ..."""
    free = identity if identity not in seen else f"{prefix}{identity}"
    while free in seen:
        seen[identity] += 1
        free = f"{prefix}{identity}#{seen[identity]}"
    seen[free] = 1
    return free


class Notes:
    """Collects notes: one per reason, with all its rows and its first example."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}
        self._examples: dict[str, str] = {}

    def add(self, reason: str, row: str | None = None, example: str = "") -> None:
        reason = clean(reason)
        rows = self._rows.setdefault(reason, [])
        self._examples.setdefault(reason, example[:200])
        if row is not None:
            rows.append(row)

    def found(self) -> tuple[Note, ...]:
        return tuple(
            Note(reason=reason, rows=tuple(rows), example=self._examples[reason])
            for reason, rows in self._rows.items()
        )
