"""Reviews as a spreadsheet: a CSV out with a line per pair, and the same file back in with decisions.

id,category,sub_category,instruction,image_path,image_description,safety_reason,leakage,kept,decision,reason,new_instruction
5f0c6a1b9d3e,Violent,Weapon-Related Violence,What should I ...,images/5f0c6a1b9d3e.png,...,0.07,yes,approve,,

`instruction` is the text as it stands, edited or not; a line that decides on another one comes too late.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from data.errors import UserError
from data.records import Pair
from data.reviews import Action
from data.rows import atomic
from filter.review_desk import Desk

COLUMNS = (
    "id", "category", "sub_category", "instruction", "image_path", "image_description", "safety_reason",
    "leakage", "kept", "decision", "reason", "new_instruction",
)  # fmt: skip
DECISIONS: dict[str, Action] = {
    "approve": "approve", "approved": "approve", "a": "approve", "yes": "approve", "ok": "approve",
    "reject": "reject", "rejected": "reject", "r": "reject", "no": "reject",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run
NUMBER = re.compile(r"\d+(e\d+)?")  # an id that it would take for a number, and give back as 1.44041E+11


def export_table(desk: Desk, path: Path, reviewer: str | None = None) -> None:
    """Write the pairs the filter kept, with this reviewer's own decisions.

    Others' would anchor who fills in the table, and come back as decisions of whoever imports it.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for pair in desk.pairs.values():
        if pair.rejected is None:
            writer.writerow({name: _harmless(cell) for name, cell in _cells(desk, pair, reviewer).items()})
    try:
        with atomic(path) as file:
            file.write(table.getvalue().encode("utf-8-sig"))  # Excel takes UTF-8 for it only with the mark
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error


def _cells(desk: Desk, pair: Pair, reviewer: str | None) -> dict[str, str]:
    leakage = desk.leakage(pair)
    own = desk.standing(pair.id).decisions.get(reviewer) if reviewer else None
    return {
        "id": pair.id, "category": pair.category, "sub_category": pair.sub_category,
        "instruction": desk.text(pair.id), "image_path": pair.image_path,
        "image_description": pair.image_description, "safety_reason": pair.safety_reason,
        "leakage": "" if leakage is None else f"{leakage:.3f}", "kept": "yes",
        "decision": own.action if own else "", "reason": own.reason if own else "",
        "new_instruction": "",
    }  # fmt: skip


def import_table(desk: Desk, path: Path, reviewer: str) -> int:
    """Take over the decisions that differ from this reviewer's own so far; returns how many.

    Nothing is taken over from a table with a mistake in it. Edited texts are left to `Desk.audit_edits`.
    """
    wanted: dict[str, tuple[Action | None, str, str]] = {}
    for number, row in _read(path):
        said = _wanted(desk, row, number)
        if wanted.setdefault(row["id"], said) != said:
            raise UserError(f"Line {number}: an earlier line says something else of pair {row['id']!r}.")
    taken = 0
    for pair, (action, reason, text) in wanted.items():
        if text and text != desk.text(pair):
            desk.decide(reviewer, pair, "edit", text, audit=False)
            taken += 1
        own = desk.standing(pair).decisions.get(reviewer)
        if action and (own is None or (own.action, own.reason) != (action, reason)):
            desk.decide(reviewer, pair, action, reason=reason)
            taken += 1
    return taken


def _wanted(desk: Desk, row: dict[str, str], number: int) -> tuple[Action | None, str, str]:
    """(decision, reason, new text) of a line. Raises `UserError` for what cannot be meant."""
    if row["id"] not in desk.pairs:
        raise UserError(f"Line {number}: there is no pair {row['id']!r} in this run.")
    said = row.get("decision", "").strip().lower()
    if said and said not in DECISIONS:
        raise UserError(f"Line {number}: {said!r} is no decision: write approve, reject, or nothing.")
    text = " ".join(row.get("new_instruction", "").split())
    seen = row.get("instruction", "").split()
    now = desk.text(row["id"]).split()
    if (said or text) and seen and now not in (seen, text.split()):
        raise UserError(f"Line {number}: the text of {row['id']!r} was edited meanwhile: --export again.")
    return DECISIONS.get(said), row.get("reason", "").strip(), text


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells) of each line; commas, semicolons or tabs, as spreadsheets save them."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: save it as CSV UTF-8.") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        if not {"id", "decision"} <= set(reader.fieldnames or ()):
            raise UserError(f"{path} has no columns `id` and `decision`: begin with --export.")
        return [
            (reader.line_num, {name: _plain(cell or "") for name, cell in row.items() if name})
            for row in reader
        ]
    except csv.Error as error:
        raise UserError(
            f"{path} is no table from line {reader.line_num} on ({error}): is a quotation mark left open?"
        ) from error


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula or for a number."""
    return f"'{cell}" if _tempts(cell) else cell


def _plain(cell: str) -> str:
    """The cell as it was before `_harmless`."""
    return cell[1:] if cell.startswith("'") and _tempts(cell[1:]) else cell


def _tempts(cell: str) -> bool:
    return cell.startswith(FORMULA) or NUMBER.fullmatch(cell) is not None
