r"""Ratings of a published benchmark's pairs, joined with your copy of it: natural leaks to judge and to fit by.

    python -m audit.rated audit/calibration/rated/vlsbench.csv vlsbench/data.json --out rated.jsonl
    python -m audit.validate rated.jsonl

The project holds the ratings, the benchmark its texts. A row of a file of ratings is a row of the benchmark, read
by two raters with a written rubric (`rated/RUBRIC.md`): 1 leaks, 0 does not, 0.5 doubtful, "none" where
nothing risky is shown, so that nothing can leak. Pairs on which both agree become labelled pairs.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from audit.labelled import LabelledPair
from audit.probe import FOLDS
from data.errors import UserError, run_cli
from data.records import pair_id, seed_of

if TYPE_CHECKING:
    from data.sources.source_rows import SourceRow

LABELS = {"1": 1, "0": 0, "none": 0}  # of a rating that can be a label
DOUBT = "0.5"


class Rating(NamedTuple):
    """What two raters said of one row; `text` tells whether it still is the row they read."""

    id: str
    first: str
    second: str
    text: str  # `pair_id` of query and description

    @property
    def label(self) -> int | None:
        """1 or 0 where both are sure and say the same: where nothing risky is shown, nothing leaks."""
        first, second = LABELS.get(self.first), LABELS.get(self.second)
        return first if first == second else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m audit.rated", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("ratings", type=Path, metavar="RATINGS.csv", help="id, first, second, text")
    parser.add_argument("benchmark", metavar="BENCHMARK", help="the benchmark's own file or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="labelled pairs")
    arguments = parser.parse_args()
    from data.rows import write_text
    from data.sources.reader import read_source

    ratings = read_ratings(arguments.ratings)
    pairs = list(labelled(ratings, read_source(arguments.benchmark).rows, arguments.ratings.stem))
    write_text(arguments.out, "".join(f"{pair.model_dump_json(exclude_defaults=True)}\n" for pair in pairs))
    print(
        f"{arguments.out}: {len(pairs):,} pairs, {sum(pair.leak for pair in pairs):,} leaking. Left out, because the "
        f"raters differ or both doubt: {len(ratings) - len(pairs):,} of {len(ratings):,} rated rows."
    )
    return 0


def read_ratings(path: Path) -> list[Rating]:
    """The rows of a file of ratings."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            ratings = [
                Rating(row["id"], row["first"], row["second"], row["text"]) for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} holds no ratings: it needs the columns id, first, second, text.") from error
    if not ratings:
        raise UserError(f"{path} holds no ratings: it has no rows.")
    for rating in ratings:
        for said in (rating.first, rating.second):
            if said not in (*LABELS, DOUBT):
                raise UserError(
                    f"{path} rates the row {rating.id!r} {said!r}: a rating is 1, 0, 0.5 or none."
                )
    return ratings


def labelled(ratings: Sequence[Rating], rows: Sequence[SourceRow], family: str) -> Iterator[LabelledPair]:
    """The rated pairs with a label."""
    row_of = {row.id: row for row in rows}
    strangers = Counter(_stranger(rating, row_of.get(rating.id)) for rating in ratings)
    if strangers[True]:
        raise UserError(
            f"{strangers[True]:,} of {len(ratings):,} rated rows read otherwise in this benchmark: "
            f"is it {family}, in the version that was rated?"
        )
    for rating in ratings:
        row = row_of[rating.id]
        if rating.label is not None:
            picture = row.image_key or row.image_description or ""
            yield LabelledPair(
                id=rating.id,
                family=family,
                query=row.query,
                image_description=row.image_description or "",
                leak=rating.label,
                topic=row.sub_category,
                picture=picture,
                fold=f"{family} {seed_of(picture) % FOLDS}",
            )


def _stranger(rating: Rating, row: SourceRow | None) -> bool:
    return row is None or pair_id(row.query, row.image_description or "") != rating.text


if __name__ == "__main__":
    run_cli(main)
