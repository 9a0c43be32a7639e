"""The task folder that lmms-eval reads: a YAML, its functions, and a Parquet file with the pictures."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.errors import UserError, missing_package
from data.rows import atomic, write_text
from eval.cases import read_cases
from eval.records import Case
from eval.refusals import APOSTROPHES, REFUSALS, SEEN_CHARACTERS

TEMPLATES = Path(__file__).with_name("templates") / "lmms_eval"
COLUMNS = ("question_id", "instruction", "category", "sub_category", "safety_reason")
TEXT = {"dtype": "string", "_type": "Value"}  # as `datasets` writes it
FLAG = {"dtype": "bool", "_type": "Value"}
ROWS_PER_GROUP = 64


def write_task(out: Path, data: str, name: str) -> tuple[Path, int]:
    """Write the folder `out/name`; returns it and how many rows have no picture and are left out."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"--name {name!r} must be made of a-z, 0-9 and _, and begin with a letter.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the task.")
    folder = (out / name).resolve()
    table = folder / "data" / "test.parquet"
    with tempfile.TemporaryDirectory(prefix="eval-pictures-") as unpacked:
        cases = read_cases(data, unpack_to=Path(unpacked))
        shown = [case for case in cases if case.image is not None]
        if not shown:
            raise UserError(
                f"None of the {len(cases)} cases of {data} has a picture file: unpack the pictures beside it."
            )
        write_parquet(table, shown)
    write_text(folder / f"{name}.yaml", _filled("task.yaml", name=name, data=str(table)))
    functions = _filled(
        "utils.py.txt", apostrophes=repr(APOSTROPHES), pattern=repr(REFUSALS.pattern), seen=SEEN_CHARACTERS
    )
    write_text(folder / "utils.py", functions)
    return folder, len(cases) - len(shown)


def write_parquet(path: Path, cases: Sequence[Case]) -> None:
    """Rows with their pictures' bytes, which each must have; the schema tells `datasets` which column it is."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("pyarrow", "build") from error
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    features = dict.fromkeys(COLUMNS, TEXT) | {"harmless_twin": FLAG, "image": {"_type": "Image"}}
    told = {"info": {"features": features}}
    columns = [*((name, pa.string()) for name in COLUMNS), ("harmless_twin", pa.bool_()), ("image", picture)]
    schema = pa.schema(columns)
    schema = schema.with_metadata({"huggingface": json.dumps(told)})
    with atomic(path) as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(cases), ROWS_PER_GROUP):
            rows = list(_rows(cases[start : start + ROWS_PER_GROUP]))
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _rows(cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    for case in cases:
        assert case.image is not None
        yield {
            "question_id": case.id,
            "instruction": case.question,
            "category": case.category,
            "sub_category": case.sub_category,
            "safety_reason": case.safety_reason,
            "harmless_twin": case.is_safe is True,
            "image": {"bytes": case.image.read_bytes(), "path": case.image.name},
        }


def _filled(template: str, **values: object) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    return environment.get_template(template).render(**values)
