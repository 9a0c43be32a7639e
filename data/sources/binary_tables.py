"""Tables of the binary formats: Parquet, Arrow as `datasets` saves it, XLSX.

A picture inside a table is a cell {"bytes": b"...", "path": "0.png"}; nothing is decoded, nothing unpickled.
Classes that `datasets` keeps as numbers are read by their names.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from data.errors import UserError, missing_package
from data.sources.columns import Raw, shown
from data.sources.tables import Table, doubles, unique_names

# What pyarrow and openpyxl are known to raise on files that are not what their names say.
CORRUPT = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, NotImplementedError,
           RuntimeError, zipfile.BadZipFile, zlib.error, struct.error, ParseError)  # fmt: skip
BATCH_ROWS = 4096
BATCH_IMAGES = 64  # rows held at once where rows may hold whole images
SHEET_ROWS = 1 << 20  # at most: the format's own limit
LARGEST_SHEET = 1 << 30  # bytes an XLSX may unpack to


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", "build") from error
    return pyarrow


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (*CORRUPT, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's fault, not the file's
        why = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not a readable {kind} file ({why or type(error).__name__}).") from error


def read_parquet(path: Path) -> Table:
    """A Parquet file, a batch of rows at a time."""
    parquet = _arrow().parquet

    def rows() -> Iterator[Raw]:
        with _readable(path, "Parquet"), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows(file.schema_arrow)):
                yield from _rows_of(batch)

    with _readable(path, "Parquet"), parquet.ParquetFile(path) as file:
        columns = unique_names(file.schema_arrow.names)
    return Table(path.stem, path.parent, columns, rows)


def read_arrow(path: Path) -> Table:
    """An Arrow stream, which is what `Dataset.save_to_disk` writes."""
    arrow = _arrow()

    def rows() -> Iterator[Raw]:
        with _readable(path, "Arrow"), arrow.memory_map(str(path)) as file:
            for batch in arrow.ipc.open_stream(file):
                step = batch_rows(batch.schema)
                for start in range(0, batch.num_rows, step):
                    yield from _rows_of(batch.slice(start, step))

    with _readable(path, "Arrow"), arrow.memory_map(str(path)) as file:
        columns = unique_names(arrow.ipc.open_stream(file).schema.names)
    return Table(path.stem, path.parent, columns, rows)


def _rows_of(batch: Any) -> Iterable[Raw]:
    """The rows of a record batch, under the names that its table gives the columns."""
    columns = unique_names(batch.schema.names)
    classes = _class_names(batch.schema)
    names = {columns[at]: classes[name] for at, name in enumerate(batch.schema.names) if name in classes}
    return with_classes(batch.rename_columns(list(columns)).to_pylist(), names)


def batch_rows(schema: Any) -> int:
    """Rows to hold at once."""
    return BATCH_IMAGES if any("binary" in str(kind) for kind in schema.types) else BATCH_ROWS


def _class_names(schema: Any) -> dict[str, list[object]]:
    """Column -> names of its classes, as `datasets` leaves them in the file's metadata; {} where it did not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        classes = {column: each for column, each in features.items() if each.get("_type") == "ClassLabel"}
        return {column: list(each["names"]) for column, each in classes.items()}
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def with_classes(rows: Iterable[Raw], names: Mapping[str, Sequence[object]]) -> Iterable[Raw]:
    """The rows with the names of classes in place of their numbers; -1, which is none, is an empty cell."""
    if not names:
        return rows
    return (
        {**row, **{column: _class_of(row.get(column), names[column]) for column in names}} for row in rows
    )


def _class_of(value: object, names: Sequence[object]) -> object:
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def read_xlsx(path: Path) -> Table:
    """The first sheet of a workbook; formulas count as the values they were saved with. Others are named."""
    with _readable(path, "XLSX"):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_SHEET:
                raise UserError(f"{path} unpacks to more than 1 GB: save it as CSV.")
        with _book(path) as book:
            header = _trimmed(next(_first_sheet(book), ()))
            unread = [sheet.title for sheet in book.worksheets[1:]]
        columns = unique_names(header)

    def rows() -> Iterator[Raw]:
        with _readable(path, "XLSX"), _book(path) as book:
            lines = _first_sheet(book)
            next(lines, None)
            for cells in lines:
                yield dict(zip(columns, cells, strict=False))

    remarks: tuple[str, ...] = (
        (f"of {path.name} the first sheet was read, and not the others: {shown(unread)}",) if unread else ()
    )
    # The first may be an index.
    unnamed = [name for name, cell in zip(columns[1:], header[1:], strict=True) if cell in (None, "")]
    if unnamed:
        remarks += (f"{path.name} has no name for {shown(unnamed)} in its first line: are cells merged there? The "
                    "second line was read as data",)  # fmt: skip
    return Table(path.stem, path.parent, columns, rows, remarks + doubles(path, header, columns))


@contextmanager
def _book(path: Path) -> Iterator[Any]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise missing_package("openpyxl", "tables") from error
    book = load_workbook(path, read_only=True, data_only=True)
    try:
        yield book
    finally:
        book.close()


def _first_sheet(book: Any) -> Iterator[tuple[object, ...]]:
    """The rows of the first sheet that have anything in them."""
    sheet = book.worksheets[0]
    sheet.reset_dimensions()  # what a file says of its size may be wrong, and the rest would be lost
    for cells in islice(sheet.iter_rows(values_only=True), SHEET_ROWS):
        if any(cell not in (None, "") for cell in cells):
            yield cells


def _trimmed(cells: tuple[object, ...]) -> tuple[object, ...]:
    """The cells up to the last that is filled."""
    filled = [position for position, cell in enumerate(cells, start=1) if cell not in (None, "")]
    return cells[: filled[-1]] if filled else ()
