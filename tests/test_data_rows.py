"""Append-only JSONL: what a kill, a hand edit and a rewrite do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import UserError
from data.rows import RowFile, atomic, read_rows


def test_a_line_torn_by_a_kill_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "of": "1"}\n{"id": "b", "of": "2"}\n{"id": "c", "of')
    rows = RowFile(path)
    assert list(rows.index) == ["a", "b"]
    rows.append({"id": "c", "of": "3"})
    rows.close()
    assert [row["id"] for row in read_rows(path)] == ["a", "b", "c"]


def test_the_last_row_of_an_id_counts(tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "rows.jsonl")
    rows.append({"id": "a", "of": "1", "failed": "timeout"})
    rows.append({"id": "a", "of": "1", "value": 7})
    assert not rows.index["a"].failed
    assert rows.read("a")["value"] == 7


def test_half_a_surrogate_pair_in_a_text_does_not_end_the_run(tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "rows.jsonl")
    rows.append({"id": "a", "of": "1", "failed": "bad_request", "detail": "HTTP 400: \ud83d"})
    rows.close()
    assert [row["detail"] for row in read_rows(rows.path)] == ["HTTP 400: ?"]


def test_rewriting_orders_the_rows_and_drops_what_was_not_named(tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "rows.jsonl")
    for name in ("b", "a", "old", "a"):
        rows.append({"id": name, "of": "x"})
    rows.rewrite(["a", "b"])
    assert [row["id"] for row in read_rows(rows.path)] == ["a", "b"]
    rows.append({"id": "c", "of": "x"})
    assert rows.read("c") == {"id": "c", "of": "x"}


@pytest.mark.parametrize("line", ["nonsense", "[1, 2]", '{"id": 3}', '{"no": "id"}'])
def test_a_line_edited_to_nonsense_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"id": "a", "of": ""}}\n{line}\n{{"id": "b", "of": ""}}\n')
    with pytest.raises(UserError, match="Line 2 of"):
        RowFile(path)


def test_an_interrupted_atomic_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as file:
        file.write(b"half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
