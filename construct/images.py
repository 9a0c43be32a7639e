"""The existing images a profile names under [[images]]: a folder, a list, or a dataset of the Hub.

{"id": "9a3c51e0b7d2", "path": "/data/coco/000139.jpg", "name": "000139.jpg", "source": "coco2017",
 "kind": "normal", "sha256": "9f86d081884c7d65..."}
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from construct.profile import ImagesSection
from data.errors import RowFailed, UserError
from data.llm.pictures import picture
from data.records import Record, pair_id
from data.sources.columns import FLAGS, OTHERS
from data.sources.paths import SUFFIXES
from data.sources.reader import Source, read_source

LISTS = (".jsonl", ".json", ".csv", ".parquet", ".arrow")


class GivenImage(Record):
    """An image to look at, known by where it comes from; its content counts for what was made of it."""

    id: str
    path: str
    name: str
    source: str
    kind: str
    sha256: str


def given_images(sections: Sequence[ImagesSection], folder: Path) -> Iterator[GivenImage]:
    """The images of all sources, each once. Images inside a table are unpacked into the run's `folder`.

    Raises `UserError` where two images have one id, being of one source and name.
    """
    seen: dict[str, GivenImage] = {}
    for section in sections:
        for name, path in _found(section, folder):
            given = GivenImage(
                id=pair_id(section.source, name), path=path, name=name, source=section.source,
                kind=section.kind, sha256=_sha256(path),
            )  # fmt: skip
            known = seen.setdefault(given.id, given)
            if known is given:
                yield given
            elif known.sha256 != given.sha256:
                raise UserError(
                    f"[[images]] {section.source}: {known.path} and {path} are two images of one source and "
                    "name: give one of their tables another source."
                )


def _found(section: ImagesSection, folder: Path) -> list[tuple[str, str]]:
    """(name, path) of each image of a source."""
    path = Path(section.path).expanduser()
    files = _files(path) if path.is_dir() else []
    pictures = [
        (file.relative_to(path).as_posix(), str(file)) for file in files if file.suffix.lower() in SUFFIXES
    ]
    if pictures and not any(file.suffix.lower() in LISTS for file in files):
        return pictures
    try:
        listed = _of_list(section, str(path) if path.exists() else section.path, folder)
    except UserError:
        if not pictures or section.image_column:
            raise
        return pictures  # the list beside them is of something else
    named = {found for _, found in listed}
    others = [name for name, file in pictures if os.path.realpath(file) not in named]
    if others:
        missed = f"{len(others)} of the folder's {len(pictures)} images are not in the list beside them"
        _say(section, f"{missed} and left out, such as {others[0]!r}")
    return listed


def _files(folder: Path) -> list[Path]:
    """The files in a folder and below it; hidden ones, and those in hidden folders, do not count."""
    shown = (file for file in folder.rglob("*") if not _hidden(file.relative_to(folder)))
    return sorted(file for file in shown if file.is_file())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _of_list(section: ImagesSection, path: str, folder: Path) -> list[tuple[str, str]]:
    """The images a list or a dataset names. It needs no queries: the image column stands in for one."""
    columns = [section.image_column] if section.image_column else [None, *OTHERS["image"].split()]
    problems: dict[str, None] = {}
    for column in columns:
        try:
            source = read_source(
                path, image_column=column, query_column=column, unpack_to=folder / "images" / "given"
            )
        except UserError as error:
            problems[str(error).replace(FLAGS["query"], "image_column")] = None
            continue
        if any(row.image for row in source.rows):
            _say_lost(section, source)
            return [(row.image_key, row.image) for row in source.rows if row.image]
        lost = next((note for note in source.notes if note.example), None)
        if lost:  # there is an image column, and what it names is not to be had
            problems = {f"{path} names {lost.example!r}, and {lost.reason}.": None}
            break
    # What has nothing to do with columns is the same whichever is tried.
    unfound = f"no image column is found in {path}; set image_column."
    raise UserError(f"[[images]] {section.source}: {next(iter(problems)) if len(problems) == 1 else unfound}")


def _say_lost(section: ImagesSection, source: Source) -> None:
    """How many rows of a list are without an image to look at, and why."""
    without = {row.id for row in source.rows if not row.image}
    if without:
        lost = [note for note in source.notes if note.reason.startswith(("its image", "its embedded image"))]
        why = [f"{len(note.rows)} where {note.reason}, such as {note.example!r}" for note in lost]
        _say(section, f"{len(without)} of {len(source.rows)} rows have no image" + "; ".join(["", *why]))


def _say(section: ImagesSection, what: str) -> None:
    print(f"note: [[images]] {section.source}: {what}.", file=sys.stderr)


def _sha256(path: str) -> str:
    try:
        return picture(Path(path)).sha256
    except RowFailed:
        return ""  # gone since it was listed: its row will fail and say so
