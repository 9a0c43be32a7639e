"""The response cache: a paid call is never paid for twice, not even after a kill.

It also remembers what failed for good and why, what each stage has spent, and how servers want to be asked.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from data.errors import RowFailed, UserError
from data.llm.prices import Bill

TABLES = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL, stage TEXT NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost REAL);
CREATE TABLE IF NOT EXISTS failures (key TEXT PRIMARY KEY, reason TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class ResponseCache:
    """Replies by the hash of their whole request, in SQLite with a write-ahead log."""

    def __init__(self, path: Path | str) -> None:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._path = path
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            # NORMAL: a killed process loses nothing; only a power cut can cost the last replies.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(TABLES)
        except sqlite3.OperationalError as error:
            raise _stuck(path, error) from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path} is not a response cache ({error}): move it away to start a new one."
            ) from error

    def get(self, key: str) -> str | None:
        """The stored reply to a request, or None."""
        row = self._execute("SELECT reply FROM completions WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str, bill: Bill | None = None, stage: str = "") -> None:
        """Store a reply and what it cost; both survive a kill from here on."""
        bill = bill or Bill()
        self._execute(
            "INSERT OR REPLACE INTO completions VALUES (?, ?, ?, ?, ?, ?)",
            (key, reply, stage, bill.input_tokens, bill.output_tokens, None if bill.unpriced else bill.cost),
        )

    def failure(self, key: str) -> RowFailed | None:
        """The failure remembered for the conversation that begins with this request, or None."""
        row = self._execute("SELECT reason, detail FROM failures WHERE key = ?", (key,)).fetchone()
        return None if row is None else RowFailed(*row)

    def remember_failure(self, key: str, failure: RowFailed) -> None:
        """Remember a failure that asking again would only repeat."""
        self._execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (key, failure.reason, failure.detail)
        )

    def recall(self, name: str) -> str | None:
        """What was noted under a name, such as how a server wants to be asked."""
        row = self._execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, name: str, value: str) -> None:
        """Note a line of text under a name."""
        self._execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def forget(self, name: str) -> None:
        """Drop a note."""
        self._execute("DELETE FROM notes WHERE name = ?", (name,))

    def spent(self, stage: str | None = None) -> Bill:
        """What the replies held here cost together, or those of one stage."""
        row = self._execute(
            "SELECT count(*), total(input_tokens), total(output_tokens), total(cost), count(*) - count(cost) "
            "FROM completions WHERE ?1 IS NULL OR stage = ?1",
            (stage,),
        ).fetchone()
        calls, asked, answered, cost, unpriced = row
        return Bill(calls, int(asked), int(answered), cost, unpriced)

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM completions").fetchone()[0])

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Run a statement. Raises `UserError` when the file can no longer be read or written."""
        try:
            return self._db.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise _stuck(self._path, error) from error

    def close(self) -> None:
        self._db.close()


def _stuck(path: Path | str, error: sqlite3.DatabaseError) -> UserError:
    """One sentence for a full or read-only disk, or a file that was damaged."""
    return UserError(
        f"Cannot use {path} ({error}): see that its disk has room and may be written, then run the same "
        "command again; everything stored so far is kept. A damaged file can be moved away; its replies are "
        "then asked for again."
    )
