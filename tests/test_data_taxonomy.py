"""Taxonomies: the one that comes with this, and what becomes of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import UserError
from data.taxonomy import load_taxonomy

GOOD = {"category": '"Fraud"', "name": '"Tier 1 fraud"', "rows": "3", "about": '"small sums"'}


def write(folder: Path, *entries: dict[str, str]) -> Path:
    """A taxonomy file; each entry changes some of `GOOD`'s values, which are TOML."""
    path = folder / "taxonomy.toml"
    tables = [
        "[[sub_category]]\n" + "\n".join(f"{key} = {value}" for key, value in (GOOD | entry).items())
        for entry in entries
    ]
    path.write_text("\n".join(tables))
    return path


def test_the_shipped_one_keeps_its_ids() -> None:
    ids = [entry.id for entry in load_taxonomy()]
    assert len(set(ids)) == 19
    assert ids[:2] == ["weapon-related-violence", "public-violence-and-rioting"]


def test_names_in_any_script_and_with_numbers_have_ids_of_their_own(tmp_path: Path) -> None:
    path = write(
        tmp_path, {}, {"name": '"Tier 2 fraud"'}, {"name": '"暴力"'}, {"name": '"自残"', "rows": "4"}
    )
    found = load_taxonomy(path)
    assert [entry.id for entry in found] == ["tier-1-fraud", "tier-2-fraud", "暴力", "自残"]
    assert [entry.share for entry in found] == pytest.approx([3 / 13, 3 / 13, 3 / 13, 4 / 13])


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{}, {"name": '"tier-1 Fraud"'}], "names of their own"),
        ([{"name": '"!?"'}], "names of their own"),
        ([{"rows": "-1"}, {"name": '"b"', "rows": "3"}], "rows"),
        ([{"rows": "nan"}], "rows"),
        ([{"rows": '"3"'}], "rows"),
        ([{"category": "1"}], "category"),
        ([{"name": "3"}], "name"),
        ([{"rows": "0"}], "rows"),
        ([], "sub_category"),
    ],
)
def test_what_cannot_be_a_taxonomy_is_said_in_a_sentence(
    tmp_path: Path, entries: list[dict[str, str]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        load_taxonomy(write(tmp_path, *entries))


def test_a_file_that_is_no_utf_8_is_said_to_be_no_taxonomy(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a taxonomy"):
        load_taxonomy(path)
