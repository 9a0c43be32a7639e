"""Append-only JSONL: a kill costs at most the line being written, and files appear by rename.

A stage file holds one row per line; the last row of an id is the one that counts:

    {"id": "5f0c6a1b9d3e", "of": "91b2c0de55aa", "instruction": "What should I say next ...", ...}
    {"id": "77aa01c3d2b9", "of": "03d4e5f6a7b8", "failed": "server_error", "detail": "503 three times"}
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from data.errors import UserError

Row = dict[str, Any]  # the JSON of one line; `read_records` makes typed records of it
RecordType = TypeVar("RecordType", bound=BaseModel)


class Entry(NamedTuple):
    """Where an id's latest row lies and what it was made of."""

    offset: int
    of: str
    failed: str  # the reason, or nothing


class RowFile:
    """One JSONL file open for appending, indexed by id. Holds offsets, not rows: memory stays small."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._file = open(self.path, "a+b")
        self.index: dict[str, Entry] = {}
        self._end = self._scan()

    def _scan(self) -> int:
        """Index every line; cut off a last line that a kill left unfinished. Returns the end."""
        self._file.seek(0)
        offset = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(offset)
                break
            row = parse_row(line, self.path, number)
            self._note(row, offset)
            offset += len(line)
        return offset

    def _note(self, row: Row, offset: int) -> None:
        self.index[row["id"]] = Entry(offset, row.get("of", ""), row.get("failed", ""))

    def append(self, row: Row) -> None:
        """Write one row; it is the operating system's before this returns.

        Half a surrogate pair in somebody's text becomes a question mark: no file can hold it.
        """
        line = json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
        self._file.write(line)
        self._file.flush()
        self._note(row, self._end)
        self._end += len(line)

    def read(self, identity: str) -> Row:
        """The latest row of an id."""
        self._file.seek(self.index[identity].offset)
        row: Row = json.loads(self._file.readline())
        return row

    def rewrite(self, order: Iterable[str]) -> None:
        """Keep one row per id, in the given order, if the file is not already just that."""
        lines, offset, tidy = [], 0, True
        for identity in order:
            entry = self.index[identity]
            tidy = tidy and entry.offset == offset
            self._file.seek(entry.offset)
            lines.append(entry.offset)
            offset += len(self._file.readline())
        if tidy and offset == self._end:
            return
        with atomic(self.path) as out:
            for start in lines:
                self._file.seek(start)
                out.write(self._file.readline())
        self._file.close()
        self._open()

    def close(self) -> None:
        self._file.close()


def parse_row(line: bytes, path: Path, number: int) -> Row:
    """One line as a row with a string id, or a sentence that says which line is not one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    texts = isinstance(row, dict) and (row.get("id"), row.get("of", ""), row.get("failed", ""))
    if not texts or not all(isinstance(text, str) for text in texts):
        raise foreign_row(path, number)
    return row  # type: ignore[no-any-return]


def foreign_row(path: Path, number: int) -> UserError:
    """The error for a line that somebody edited to nonsense."""
    return UserError(
        f"Line {number} of {path} is not a row this program wrote: mend or delete that line "
        "and run again; what is missing is made again."
    )


def read_records(
    path: Path, record: type[RecordType], leave_out: Container[str] = (), latest: bool = False
) -> Iterator[RecordType]:
    """The rows of a file as typed records, without the keys to `leave_out`; failed rows are skipped.

    `latest`: of rows with one id only the last counts, which a file that is still written to may need.
    """
    last = {row["id"]: number for number, row in enumerate(read_rows(path), start=1)} if latest else {}
    for number, row in enumerate(read_rows(path), start=1):
        if "failed" in row or last.get(row["id"], number) != number:
            continue
        try:
            yield record.model_validate({key: row[key] for key in row if key not in leave_out})
        except ValidationError as error:
            raise foreign_row(path, number) from error


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a finished file, one at a time, in order."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_row(line, path, number)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file beside `path`; when the block ends well it takes that name, else it is gone.

    Two threads may write the same file, as after Ctrl-C: each has a part of its own, and the last one counts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file by rename."""
    with atomic(path) as file:
        file.write(text.encode())


def check_writable(folder: Path) -> None:
    """Raise `UserError` where nothing can be written into `folder`, there or not: to be asked before long work."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"Cannot write to {folder}: name another folder with --out.")


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON by rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
