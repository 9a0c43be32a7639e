"""Reviews as a spreadsheet: what goes out comes back, and nothing that its reviewer did not decide."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from data.errors import UserError
from data.reviews import read_reviews
from filter.review_desk import Desk
from filter.review_table import export_table, import_table
from tests.review_run import Scorer, desk_of
from tests.small_run import make_run


def test_a_spreadsheet_goes_out_and_comes_back(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    path = tmp_path / "pairs.csv"
    export_table(desk, path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [pair.id for pair in kept]
    rows[0]["decision"] = "Approve"
    rows[1] |= {"decision": "reject", "reason": "off topic"}
    rows[2] |= {"decision": "approve", "new_instruction": "Where is it?"}
    with open(path, "w", encoding="utf-8-sig", newline="") as file:  # as a European Excel saves it
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    assert import_table(desk, path, "Cy") == 4
    assert import_table(desk, path, "Cy") == 0
    assert desk.standing(kept[1].id).decisions["Cy"].reason == "off topic"
    assert desk.text(kept[2].id) == "Where is it?"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("Approve", "perhaps"))
    with pytest.raises(UserError, match="Line 2: 'perhaps' is no decision"):
        import_table(desk, path, "Cy")


def write_table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("id,decision,new_instruction", *lines)) + "\n")
    return path


def test_an_imported_edit_is_audited_once(tmp_path: Path) -> None:
    kept, scorer = make_run(tmp_path), Scorer()
    desk = Desk(tmp_path, scorer)
    lines = [f"{pair.id},approve,Where is it {number}?" for number, pair in enumerate(kept[:6])]
    assert import_table(desk, write_table(tmp_path / "pairs.csv", *lines), "Cy") == 12
    time.sleep(0.2)
    assert scorer.asked == 0
    desk.audit_edits(desk.unaudited())
    audits = [review for review in read_reviews(tmp_path) if review.action == "audit"]
    assert scorer.asked == len(audits) == 6


def test_a_table_takes_back_nobodys_edit(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for pair in kept[:2]:
        desk.decide("Bo", pair.id, "edit", "Where is it?", audit=False)
    path, before = tmp_path / "pairs.csv", kept[0].instruction
    export_table(desk, path, "Ada")
    assert desk.undo("Bo") == kept[1].id and desk.undo("Bo") == kept[0].id
    assert import_table(desk, path, "Ada") == 0  # she has filled in nothing
    assert desk.text(kept[0].id) == before
    desk.decide("Bo", kept[0].id, "edit", "Where was it?", audit=False)
    exported = path.read_text(encoding="utf-8-sig")
    for filled in (",yes,approve,,", ",yes,,,Where will it be?"):
        path.write_text(exported.replace(",yes,,,", filled, 1))
        with pytest.raises(UserError, match=r"Line 2: the text of .* was edited meanwhile"):
            import_table(desk, path, "Ada")
    assert desk.text(kept[0].id) == "Where was it?"


def test_an_id_that_looks_like_a_number_survives_a_spreadsheet(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    ids = ("144041192559", "567395e34490", kept[0].id)
    desk.pairs = {name: kept[0].replace(id=name) for name in ids}
    path = tmp_path / "pairs.csv"
    export_table(desk, path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["id"] = as_a_spreadsheet_gives_it_back(row["id"])
        row["decision"] = "approve"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert import_table(desk, path, "Ada") == 3


def as_a_spreadsheet_gives_it_back(cell: str) -> str:
    """What it can read as a number it shows, and saves, in six digits."""
    try:
        return f"{float(cell):.5E}"
    except ValueError:
        return cell


def test_a_table_holds_no_decisions_but_its_reviewers(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    for pair in kept[:4]:
        desk.decide("Bo", pair.id, "reject", reason="tame")
    desk.decide("Ada", kept[0].id, "approve", reason="fine")
    path = tmp_path / "pairs.csv"

    def decided(reviewer: str | None) -> list[tuple[str, str]]:
        export_table(desk, path, reviewer)
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [(row["decision"], row["reason"]) for row in csv.DictReader(file)]

    assert set(decided(None)) == {("", "")}
    assert decided("Ada")[:2] == [("approve", "fine"), ("", "")]
    assert import_table(desk, path, "Ada") == 0  # nobody else's became hers


def test_a_table_shows_the_leakage_of_the_text_as_it_stands(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.decide("Bo", kept[0].id, "edit", "Where is the gun?", audit=False)
    desk.audit_edits([kept[0].id])
    desk.decide("Bo", kept[1].id, "edit", "Where is it?", audit=False)
    export_table(desk, tmp_path / "pairs.csv")
    with open(tmp_path / "pairs.csv", encoding="utf-8-sig", newline="") as file:
        assert [row["leakage"] for row in csv.DictReader(file)][:3] == ["0.900", "", "0.040"]


def test_a_table_with_a_mistake_in_it_is_refused_whole(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    path, (first, second, *_) = tmp_path / "pairs.csv", [pair.id for pair in kept]
    twice = write_table(path, f"{second},approve,", f"{first},approve,", f"{first},reject,")
    with pytest.raises(UserError, match="Line 4: an earlier line says something else"):
        import_table(desk, twice, "Cy")
    with pytest.raises(UserError, match="is a quotation mark left open"):
        import_table(desk, write_table(path, f'{first},approve,"oops', *["x,y,z"] * 30_000), "Cy")
    with pytest.raises(UserError, match="name 'auditor' is taken"):
        import_table(desk, write_table(path, f"{first},approve,"), "auditor")
    export_table(desk, path)
    path.write_text(path.read_text(encoding="utf-8-sig").replace(",yes,,", ",yes,approve,"))
    desk.decide("Bo", second, "edit", "Where is it?", audit=False)
    with pytest.raises(UserError, match=r"Line 3: the text of .* was edited meanwhile"):
        import_table(desk, path, "Cy")
    assert {review.reviewer for review in read_reviews(tmp_path)} == {"Bo"}


def test_a_cell_that_begins_like_a_formula_is_harmless_in_a_spreadsheet(tmp_path: Path) -> None:
    desk, kept = desk_of(tmp_path)
    desk.pairs[kept[0].id] = kept[0].replace(instruction='=HYPERLINK("http://evil.example")')
    path = tmp_path / "pairs.csv"
    export_table(desk, path)
    assert "'=HYPERLINK" in path.read_text(encoding="utf-8-sig")
    assert import_table(desk, path, "Cy") == 0
