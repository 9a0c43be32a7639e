"""VLSBench's own layout: `data.json` with `imgs/` beside it, written and read.

data.json is a list of rows:

{"instruction_id": 0, "instruction": "What should I say next ...", "image_path": "imgs/0.png",
 "category": "Violent", "sub_category": "Weapon-Related Violence", "source": "generation",
 "image_description": "A man in a dark jacket ...", "safety_reason": "The picture shows ..."}
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads this one on Python 3.11 too

from data.errors import UserError
from data.records import Pair
from data.rows import write_json
from data.sources.paths import lies_inside


class VlsbenchRow(TypedDict):
    """One row of VLSBench's data.json, keys in its order."""

    instruction_id: int
    instruction: str
    image_path: str
    category: str
    sub_category: str
    source: str
    image_description: str
    safety_reason: str


@dataclass(frozen=True)
class Entry:
    """A row of a benchmark, where its picture lies now, and the pair it was made of (None: another's row)."""

    row: VlsbenchRow
    picture: Path
    pair: Pair | None = None


def entry_of(number: int, pair: Pair, run: Path, folder: str = "imgs") -> Entry:
    """A pair of a run as the row with this number."""
    picture = run / pair.image_path
    row = VlsbenchRow(
        instruction_id=number,
        instruction=pair.instruction,
        image_path=f"{folder}/{number}{picture.suffix.lower() or '.png'}" if folder else "",
        category=pair.category,
        sub_category=pair.sub_category,
        source=pair.source,
        image_description=pair.image_description,
        safety_reason=pair.safety_reason,
    )
    return Entry(row, picture, pair)


def write_layout(folder: Path, entries: Sequence[Entry]) -> None:
    """Write `data.json` and the pictures it names; a picture several rows share is written once."""
    for path, picture in {entry.row["image_path"]: entry.picture for entry in entries}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, folder / path)
    write_json(folder / "data.json", [entry.row for entry in entries])


def read_layout(folder: Path) -> list[Entry]:
    """The rows of a VLSBench-schema benchmark. Raises `UserError` for what is not one."""
    path = folder / "data.json" if folder.is_dir() else folder
    try:
        given = json.loads(path.read_bytes())
        rows = TypeAdapter(list[VlsbenchRow]).validate_python(given)
    except OSError as error:
        raise UserError(
            f"{folder} holds no VLSBench-schema benchmark: there is no data.json to read."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not in VLSBench's schema: {place}: {first['msg']}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    entries = [Entry(row, _inside(path.parent, row["image_path"])) for row in rows]
    _check(path, entries)
    if others := sorted({key for row in given for key in row} - VlsbenchRow.__annotations__.keys()):
        named = ", ".join(map(repr, others))[:200]
        print(f"note: {path} has columns beyond VLSBench's, which are left out: {named}", file=sys.stderr)
    return entries


def _check(path: Path, entries: Sequence[Entry]) -> None:
    numbers = [entry.row["instruction_id"] for entry in entries]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{path} gives an instruction_id to more than one row: ids must tell rows apart.")
    missing = [entry.row["image_path"] for entry in entries if not _is_file(entry.picture)]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(entries)} pictures are missing, such as {missing[0][:200]}."
        )


def _inside(folder: Path, relative: str) -> Path:
    """The picture's place, if it stays within the benchmark's folder, all its links followed."""
    path = PurePosixPath(relative)
    strays = path.is_absolute() or ".." in path.parts or "\0" in relative
    if strays or not lies_inside(folder / relative, folder):
        raise UserError(f"{folder}: the picture {relative[:200]!r} lies outside the benchmark's folder.")
    return folder / relative


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file system could have a path like this
        return False
