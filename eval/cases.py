"""The cases of a benchmark: VLSBench's folder (data.json and imgs/), or whatever else the readers know.

A row of `data.json`:

    {"instruction_id": 0, "instruction": "...", "image_path": "imgs/0.png", "category": "Violent",
     "sub_category": "Weapon-Related Violence", "source": "generation", "image_description": "...",
     "safety_reason": "..."}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.errors import UserError
from data.rows import read_rows
from data.sources.columns import text_of
from data.sources.reader import SourceRow, read_source
from eval.records import Case

READERS = 4


def read_cases(data: str, limit: int | None = None, unpack_to: Path | None = None) -> list[Case]:
    """All cases of a benchmark, or its first `limit`, with the content hash of each picture."""
    path = Path(data).expanduser()
    if not data.startswith("hf:") and not path.exists():
        raise UserError(f"There is no benchmark {data}: name a folder with data.json and imgs/, or a file.")
    own = path / "data.json" if (path / "data.json").is_file() else path
    rows = read_source(data if data.startswith("hf:") else str(own), unpack_to=unpack_to).rows
    extras = list(_extras(own, len(rows)))
    chosen = rows[:limit]
    with ThreadPoolExecutor(READERS) as pool:
        hashes = list(pool.map(_sha256, (row.image for row in chosen)))
    return [_case(row, extra, sha) for row, extra, sha in zip(chosen, extras, hashes, strict=False)]


def _case(row: SourceRow, extra: dict[str, str], sha256: str) -> Case:
    return Case(
        id=row.id,
        question=row.query,
        image=Path(row.image) if row.image else None,
        image_sha256=sha256,
        image_key=row.image_key,
        image_name=extra.get("image_path") or row.image_key,
        image_description=row.image_description or "",
        category=row.category,
        sub_category=row.sub_category,
        source=extra.get("source", ""),
        safety_reason=extra.get("safety_reason", ""),
        is_safe=row.is_safe,
    )


def _extras(path: Path, rows: int) -> Iterator[dict[str, str]]:
    """What VLSBench's layout has beside the readers' columns; nothing where the file is another's."""
    try:
        table = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else []
    except ValueError:
        table = []
    same = isinstance(table, list) and len(table) == rows and all(isinstance(row, dict) for row in table)
    for at in range(rows):
        fields = ("image_path", "source", "safety_reason") if same else ()
        yield {name: text_of(table[at].get(name)) for name in fields}


def _sha256(image: str | None) -> str:
    if image is None:
        return ""
    with open(image, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_leakage(path: Path | None) -> dict[str, float]:
    """The auditor's scores by row id, of an `audit.jsonl`; rows it could not score are left out."""
    if path is None:
        return {}
    if not path.is_file():
        raise UserError(f"There is no audit {path}: make one with `python -m audit.run`.")
    return {row["id"]: float(row["leakage"]) for row in read_rows(path) if row.get("leakage") is not None}


def check_pictures(cases: Sequence[Case], data: str) -> None:
    """Raise `UserError` when an arm that shows pictures has none to show."""
    if not any(case.image for case in cases):
        raise UserError(
            f"None of the {len(cases)} cases of {data} has a picture file: unpack the pictures beside it, "
            "or choose arms that show none (--arms text_only,caption)."
        )


def check_descriptions(cases: Sequence[Case], data: str) -> None:
    """Raise `UserError` when what reads descriptions in the pictures' place has none to read."""
    if not any(case.image_description for case in cases):
        raise UserError(
            f"None of the {len(cases)} cases of {data} has an image description: add a column "
            "image_description, or choose a guard that sees the pictures."
        )
