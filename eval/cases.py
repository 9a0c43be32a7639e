"""The cases of a benchmark: VLSBench's folder (data.json and imgs/), or whatever else the readers know.

A row of `data.json`:

    {"instruction_id": 0, "instruction": "...", "image_path": "imgs/0.png", "category": "Violent",
     "sub_category": "Weapon-Related Violence", "source": "generation", "image_description": "...",
     "safety_reason": "..."}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.errors import UserError
from data.records import pair_id
from data.rows import foreign_row, read_rows
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
    return [_case(*each, unpack_to) for each in zip(chosen, extras, hashes, strict=False)]


def _case(row: SourceRow, extra: dict[str, str], sha256: str, unpack_to: Path | None) -> Case:
    image = Path(row.image) if row.image else None
    unpacked = image is not None and image.parent == unpack_to
    return Case(
        id=row.id,
        question=row.query,
        image=image,
        image_sha256=sha256,
        image_key=row.image_key,
        image_name=image.name if image and unpacked else extra.get("image_path") or row.image_key,
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


def read_leakage(path: Path | None, questions: Mapping[str, str]) -> dict[str, float]:
    """The auditor's scores by row id, of an `audit.jsonl`; rows it could not score are left out.

    Raises `UserError` where the audit is not of these cases alone (questions by id, "" where unknown): other
    benchmarks number their rows alike, and so does the same one built anew.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise UserError(f"There is no audit {path}: make one with `python -m audit.run`.")
    rows = list(read_rows(path))
    sources = dict.fromkeys(str(row.get("source", "")) for row in rows)
    if len(sources) > 1:
        raise one_audit_each(path, sources)
    if not any(row["id"] in questions for row in rows):
        raise UserError(f"{path} has none of these {len(questions)} cases: name the audit of this benchmark.")
    scores = {}
    for number, row in enumerate(rows, start=1):
        question, digest = questions.get(row["id"]), row.get("query_digest")
        if question and digest not in (None, pair_id(question)):
            raise UserError(
                f"{path} audited another query of the case {row['id']!r} than this benchmark has: audit it again, "
                "as it is now."
            )
        score = row.get("leakage")
        if score is None:
            continue
        if type(score) not in (int, float) or not 0 <= score <= 1:
            raise foreign_row(path, number)
        scores[row["id"]] = float(score)
    return scores


def one_audit_each(path: Path, sources: Collection[str]) -> UserError:
    """The error for an audit of several benchmarks where one is asked for."""
    return UserError(
        f"{path} is an audit of several benchmarks ({', '.join(sources)}): audit this one alone, into another "
        "folder, and name that."
    )


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
