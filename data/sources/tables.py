"""Tables of any text format as rows: JSON, JSON Lines, CSV, TSV; the binary ones are in binary_tables.py.

Shapes of JSON that are tables, beside one object a line:

    [{"id": 1, "query": "..."}, ...]      {"1": {"query": "..."}, ...}      {"data": [...], "version": 2}
    {"query": ["...", ...], "image": ["...", ...]}      one list per column, as many entries in each
    {"query": {"0": "...", ...}, "image": {"0": "...", ...}}      the same as pandas writes it, by row number

A table is read twice: once to check every line and to learn the columns, once for its rows, so that a
million rows are never held as they lie in the file.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from data.errors import UserError
from data.sources.columns import Raw, shown

WRAPPERS = ("data", "rows", "items", "examples", "samples", "questions", "annotations", "instances")
CHUNK = 1 << 20
NO_UTF8 = "cp1252"  # what Windows calls Latin-1: its quotes and dashes are control codes in Latin-1 itself
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
    """UTF-8 with or without a mark, UTF-16 with one, else Windows' Latin-1; bytes that are no text are refused."""
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
            return NO_UTF8


def _open_text(path: Path, encoding: str) -> IO[str]:
    return open(path, encoding=encoding, errors="replace", newline="")


def _remarks(path: Path, encoding: str) -> tuple[str, ...]:
    return (f"{path.name} is not UTF-8: it was read as Latin-1",) if encoding == NO_UTF8 else ()


def read_json(path: Path) -> Table:
    """A list or a dict of rows (whose keys become ids), a dict of columns, or one of these inside {"data": ...}."""
    encoding = encoding_of(path)
    value = load_json(path, encoding)
    if value is None:
        return read_jsonl(path)
    found = rows_of(value)
    if found is None and len(tables := _lists_of_rows(value)) > 1:
        raise UserError(f"{path} holds several tables ({shown(tables)}): save each as a file of its own.")
    if found is None:
        raise UserError(
            f"{path} is not a table: it needs a JSON list of rows, a dict of rows or of equally long columns, "
            'or one of these under "data".'
        )
    rows: list[Raw] = [row for row in found if isinstance(row, dict)]
    lost = len(found) - len(rows)
    remarks = _remarks(path, encoding)
    if lost:
        remarks += (f"{lost} entries of {path.name} are not rows and were left out",)
    if beside := _lists_beside(value, found):
        remarks += (f"not read of {path.name}: {shown(beside)}",)
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(path.stem, path.parent, columns, lambda: rows, remarks)


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
        numbers = {tuple(cells) for cells in value.values()}
        if len(numbers) == 1 and all(number.isdigit() for number in numbers.pop()):
            return _transposed({name: list(cells.values()) for name, cells in value.items()})
        return [{"id": key, **row} for key, row in value.items()]
    lists = [value[key] for key in _lists_of_rows(value)]
    if not lists and all(isinstance(cells, list) for cells in value.values()):
        return _transposed(value)
    return None if len(lists) > 1 else lists[0] if lists else [value]


def _transposed(columns: dict[str, list[object]]) -> list[object] | None:
    """The rows of a dict of columns, or None where one is longer than another."""
    if len({len(cells) for cells in columns.values()}) != 1:
        return None
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _lists_beside(value: object, found: list[object]) -> list[str]:
    """Lists of rows in the file beside the one that was taken."""
    if not isinstance(value, dict) or not any(rows is found for rows in value.values()):
        return []
    return [key for key in _lists_of_rows(value) if value[key] is not found]


def _lists_of_rows(value: object) -> list[str]:
    """The keys of a JSON object that hold a list of rows each."""
    if not isinstance(value, dict):
        return []
    return [key for key, rows in value.items() if isinstance(rows, list) and rows_of(rows)]


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
        start = file.readline(CHUNK)
    delimiter = max("\t" if path.suffix.lower() == ".tsv" else ",", ";", "\t", key=start.count)
    try:
        header = _check_csv(path, encoding, delimiter, csv.QUOTE_MINIMAL)
        quoting = csv.QUOTE_MINIMAL
    except csv.Error as error:
        if delimiter != "\t":
            raise UserError(f"{path} is not a readable CSV file ({error}).") from error
        quoting = csv.QUOTE_NONE  # many write tabs without quoting anything
        header = _check_csv(path, encoding, delimiter, quoting)
    columns = unique_names(header)
    rows = lambda: _csv_rows(path, encoding, delimiter, quoting, columns)  # noqa: E731
    remarks = _remarks(path, encoding) + doubles(path, header, columns)
    return Table(path.stem, path.parent, columns, rows, remarks)


def _check_csv(path: Path, encoding: str, delimiter: str, quoting: int) -> list[str]:
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
    return names


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


def doubles(path: Path, given: Sequence[object], names: Sequence[str]) -> tuple[str, ...]:
    """A remark where columns were given the name of an earlier one, so that another is read for it."""
    renamed = [
        name for cell, name in zip(given, names, strict=True) if str(cell or "").strip() not in ("", name)
    ]
    return (f"{path.name} has columns of one name: the later are called {shown(renamed)}",) if renamed else ()
