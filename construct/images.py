"""The existing images a profile names under [[images]]: a folder, a list, or a dataset of the Hub.

{"id": "9a3c51e0b7d2", "path": "/data/coco/000139.jpg", "name": "000139.jpg", "source": "coco2017",
 "kind": "normal", "sha256": "9f86d081884c7d65..."}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from construct.profile import ImagesSection
from data.errors import RowFailed, UserError
from data.llm.pictures import picture
from data.records import Record, pair_id
from data.sources.columns import OTHERS
from data.sources.paths import SUFFIXES
from data.sources.reader import read_source


class GivenImage(Record):
    """An image to look at, known by where it comes from; its content counts for what was made of it."""

    id: str
    path: str
    name: str
    source: str
    kind: str
    sha256: str


def given_images(sections: Sequence[ImagesSection], folder: Path) -> Iterator[GivenImage]:
    """The images of all sources, each once. Images inside a table are unpacked into the run's `folder`."""
    seen = set()
    for section in sections:
        for name, path in _found(section, folder):
            identity = pair_id(section.source, name)
            if identity not in seen:
                seen.add(identity)
                yield GivenImage(
                    id=identity, path=path, name=name, source=section.source, kind=section.kind,
                    sha256=_sha256(path),
                )  # fmt: skip


def _found(section: ImagesSection, folder: Path) -> list[tuple[str, str]]:
    """(name, path) of each image of a source."""
    path = Path(section.path)
    found = _of_folder(path) if path.is_dir() else []
    found = found or _of_list(section, folder)
    if not found:
        raise UserError(f"[[images]] {section.source}: {section.path} has no image that can be read.")
    return found


def _of_folder(folder: Path) -> list[tuple[str, str]]:
    """The images in a folder and below it; none if it holds a list that names them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    if any(file.suffix.lower() in (".jsonl", ".json", ".csv", ".parquet", ".arrow") for file in files):
        return []
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    return [(image.relative_to(folder).as_posix(), str(image)) for image in images]


def _of_list(section: ImagesSection, folder: Path) -> list[tuple[str, str]]:
    """The images a list or a dataset names. It needs no queries: the image column stands in for one."""
    columns = [section.image_column] if section.image_column else [None, *OTHERS["image"].split()]
    problem: UserError | None = None
    for column in columns:
        try:
            source = read_source(
                section.path, image_column=column, query_column=column, unpack_to=folder / "images" / "given"
            )
        except UserError as error:
            problem = problem or error
            continue
        if any(row.image for row in source.rows):
            return [(row.image_key, row.image) for row in source.rows if row.image]
    raise UserError(
        f"[[images]] {section.source}: no image column is found in {section.path}; set image_column."
    ) from problem


def _sha256(path: str) -> str:
    try:
        return picture(Path(path)).sha256
    except RowFailed:
        return ""  # gone since it was listed: its row will fail and say so
