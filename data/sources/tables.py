"""Tables of any text format as rows: JSON, JSON Lines, CSV, TSV; the binary ones are in binary_tables.py.

Shapes of JSON that are tables, beside one object a line:

    [{"id": 1, "query": "..."}, ...]      {"1": {"query": "..."}, ...}      {"data": [...], "version": 2}

A table is read twice: once to check every line and to learn the columns, once for its rows, so that a
million rows are never held as they lie in the file.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from data.errors import UserError
from data.sources.columns import Raw, shown

WRAPPERS = ("data", "rows", "items", "examples", "samples", "questions", "annotations", "instances")
CHUNK = 1 << 20
LONGEST_CELL = 2**31 - 1  # the csv module's own limit is 128 kB, less than one image in base64


class Table(NamedTuple):
    """A named table; `rows` starts a new pass over it each time it is called."""

    name: str
    folder: Path  # what its image paths are relative to
    columns: tuple[str, ...]
    rows: Callable[[], Iterable[Raw]]
    remarks: tuple[str, ...] = ()  # what was left out or taken for granted
    needs_query: bool = True


class Openable(NamedTuple):
    """A table that has not been opened yet, and what to call it."""

    name: str
    open: Callable[[], Table]


def encoding_of(path: Path) -> str:
    """UTF-8 with or without a mark, UTF-16 with one, else Latin-1; bytes that are no text are refused."""
    with open(path, "rb") as file:
        start = file.read(2)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
            return "utf-8-sig"
        except UnicodeDecodeError:
            file.seek(0)
            if b"\0" in file.read(CHUNK):
                raise UserError(f"{path} is not a text file.") from None
            return "latin-1"


def _open_text(path: Path, encoding: str) -> IO[str]:
    return open(path, encoding=encoding, errors="replace", newline="")


def _remarks(path: Path, encoding: str) -> tuple[str, ...]:
    return (f"{path.name} is not UTF-8: it was read as Latin-1",) if encoding == "latin-1" else ()


def read_json(path: Path) -> Table:
    """A list of rows, a dict of rows (whose keys become ids), or either inside {"data": ...}."""
    encoding = encoding_of(path)
    value = load_json(path, encoding)
    if value is None:
        return read_jsonl(path)
    found = rows_of(value)
    if found is None:
        raise UserError(
            f'{path} is not a table: it needs a JSON list of rows, a dict of rows, or either under "data".'
        )
    rows: list[Raw] = [row for row in found if isinstance(row, dict)]
    lost = len(found) - len(rows)
    remarks = (f"{lost} entries of {path.name} are not rows and were left out",) if lost else ()
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(path.stem, path.parent, columns, lambda: rows, _remarks(path, encoding) + remarks)


def load_json(path: Path, encoding: str) -> object:
    """The file's value; None where it is JSON Lines under another name."""
    with _open_text(path, encoding) as file:
        text = file.read()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be a table.") from error
    except ValueError as error:
        if not text.strip():
            raise UserError(f"{path} is empty.") from error
        if _is_object(text.lstrip().partition("\n")[0]):
            return None
        line = f" (line {error.lineno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path} is not valid JSON{line}.") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def rows_of(value: object, depth: int = 0) -> list[object] | None:
    """The list of rows that a JSON value stands for, or None."""
    if isinstance(value, list):
        return value if not value or any(isinstance(row, dict) for row in value) else None
    if not isinstance(value, dict) or not value or depth > 2:
        return None
    for key in WRAPPERS:
        inner = rows_of(value[key], depth + 1) if isinstance(value.get(key), (list, dict)) else None
        if inner is not None:
            return inner
    if all(isinstance(row, dict) for row in value.values()):
        return [{"id": key, **row} for key, row in value.items()]
    lists = [rows for rows in value.values() if isinstance(rows, list) and rows_of(rows)]
    return None if len(lists) > 1 else lists[0] if lists else [value]


def read_jsonl(path: Path) -> Table:
    """One JSON object a line; blank lines are nothing."""
    encoding = encoding_of(path)
    with _open_text(path, encoding) as file:
        if file.read(CHUNK).lstrip().startswith("["):
            return read_json(path)
    columns = tuple(dict.fromkeys(key for row in _json_lines(path, encoding) for key in row))
    return Table(
        path.stem, path.parent, columns, lambda: _json_lines(path, encoding), _remarks(path, encoding)
    )


def _json_lines(path: Path, encoding: str) -> Iterator[Raw]:
    with _open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"Line {number} of {path} is not valid JSON.") from error
            if not isinstance(row, dict):
                raise UserError(f"Line {number} of {path} is not a row: it needs a JSON object.")
            yield row


def read_csv(path: Path) -> Table:
    """Comma-, semicolon- or tab-separated values under a line of column names."""
    encoding = encoding_of(path)
    with _open_text(path, encoding) as file:
        header = file.readline(CHUNK)
    delimiter = max("\t" if path.suffix.lower() == ".tsv" else ",", ";", "\t", key=header.count)
    try:
        columns = _check_csv(path, encoding, delimiter, csv.QUOTE_MINIMAL)
        quoting = csv.QUOTE_MINIMAL
    except csv.Error as error:
        if delimiter != "\t":
            raise UserError(f"{path} is not a readable CSV file ({error}).") from error
        quoting = csv.QUOTE_NONE  # many write tabs without quoting anything
        columns = _check_csv(path, encoding, delimiter, quoting)
    rows = lambda: _csv_rows(path, encoding, delimiter, quoting, columns)  # noqa: E731
    return Table(path.stem, path.parent, columns, rows, _remarks(path, encoding))


def _check_csv(path: Path, encoding: str, delimiter: str, quoting: int) -> tuple[str, ...]:
    """The column names, once every line has been seen to fit them."""
    lines = _csv_lines(path, encoding, delimiter, quoting)
    names = next((cells for _, cells in lines), None)
    if names is None:
        raise UserError(f"{path} is empty.")
    for number, cells in lines:
        if any(cell.strip() for cell in cells[len(names) :]):
            raise UserError(
                f"Line {number} of {path} has {len(cells)} cells under {len(names)} columns "
                f"({shown(names)}): quote the cells that hold a {delimiter!r}."
            )
    return unique_names(names)


def _csv_lines(path: Path, encoding: str, delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_CELL)
    with _open_text(path, encoding) as file:
        lines = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
        try:
            for cells in lines:
                if cells:
                    yield lines.line_num, cells
        except csv.Error as error:
            raise csv.Error(f"line {lines.line_num}: {error}") from error


def _csv_rows(
    path: Path, encoding: str, delimiter: str, quoting: int, columns: tuple[str, ...]
) -> Iterator[Raw]:
    lines = _csv_lines(path, encoding, delimiter, quoting)
    next(lines)
    yield from (dict(zip(columns, cells, strict=False)) for _, cells in lines)


def unique_names(names: Iterable[object]) -> tuple[str, ...]:
    """Column names without blanks and doubles: "column 3" and "text 2" for them."""
    found: dict[str, None] = {}
    for position, cell in enumerate(names, start=1):
        name = "" if cell is None else str(cell).strip()
        name = name or f"column {position}"
        while name in found:
            name = f"{name} {position}"
        found[name] = None
    return tuple(found)
