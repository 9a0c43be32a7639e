"""One small benchmark in every format that sources come in."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from data.sources.reader import Source, read_source

ROWS = [
    {"id": "a", "query": "Where can I fly this?", "image_description": "A red kite", "image": "imgs/a.png"},
    {"id": "b", "query": "How long does it bake?", "image_description": "A loaf", "image": "imgs/b.png"},
]


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def make_bench(folder: Path) -> Path:
    """A data folder with two pictures, and a secret beside it."""
    (folder / "imgs").mkdir(parents=True)
    (folder / "imgs/a.png").write_bytes(png())
    (folder / "imgs/b.png").write_bytes(png("blue"))
    (folder.parent / "secret.png").write_bytes(png("black"))
    return folder


def write_csv(path: Path, delimiter: str = ",") -> None:
    lines = [[*ROWS[0]], *([*row.values()] for row in ROWS)]
    path.write_text("".join(delimiter.join(f'"{cell}"' for cell in line) + "\n" for line in lines))


def write_xlsx(path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for line in ([*ROWS[0]], *([*row.values()] for row in ROWS)):
        book.active.append(line)
    book.save(path)


def write_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.json": lambda path: path.write_text(json.dumps(ROWS)),
    "dict.json": lambda path: path.write_text(json.dumps({row["id"]: row for row in ROWS})),
    "columns.json": lambda path: path.write_text(
        json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})
    ),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 2, "data": ROWS})),
    "lines.json": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "lines.jsonl": lambda path: path.write_text("\n\n".join(map(json.dumps, ROWS)) + "\n"),
    "list.jsonl": lambda path: path.write_text(json.dumps(ROWS)),
    "marked.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8-sig"),
    "wide.json": lambda path: path.write_text(json.dumps(ROWS), encoding="utf-16"),
    "commas.csv": write_csv,
    "semicolons.csv": lambda path: write_csv(path, ";"),
    "tabs.tsv": lambda path: write_csv(path, "\t"),
    "sheet.xlsx": write_xlsx,
    "table.parquet": write_parquet,
}


def read(path: Path, rows: object, **columns: str) -> Source:
    path.write_text(json.dumps(rows))
    return read_source(str(path), **columns)  # type: ignore[arg-type]
