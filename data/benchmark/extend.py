"""Merging with an existing benchmark: its rows stay as they are, ours follow where they are new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from data.benchmark.layout import Entry, entry_of
from data.embedders import Embedder
from data.fingerprints import BITS, cosine_of_difference, look_at_pictures, mirrored
from data.neighbours import Vectors, nearest
from data.records import Pair

SAME_TEXT = 0.88  # cosine from which two rows say the same
SAME_PICTURE = 0.12  # share of a fingerprint's signs that may differ
STAGE = "build"


class Merged(NamedTuple):
    """All rows, theirs first; and our pairs, those that repeat one of theirs rejected."""

    entries: list[Entry]
    pairs: list[Pair]


def merge(theirs: Sequence[Entry], pairs: Sequence[Pair], run: Path, embedder: Embedder, name: str) -> Merged:
    """Their rows with their ids, then ours that repeat none of them, numbered from their highest id on."""
    judged = _reject_known(theirs, pairs, run, embedder, name)
    number = max((entry.row["instruction_id"] for entry in theirs), default=-1) + 1
    taken = {str(PurePosixPath(entry.row["image_path"])) for entry in theirs}  # ./imgs/1.png is imgs/1.png
    entries = list(theirs)
    for pair in judged:
        if pair.rejected is not None:
            continue
        while entry_of(number, pair, run).row["image_path"] in taken:
            number += 1
        entries.append(entry_of(number, pair, run))
        number += 1
    return Merged(entries, judged)


def _reject_known(
    theirs: Sequence[Entry], pairs: Sequence[Pair], run: Path, embedder: Embedder, name: str
) -> list[Pair]:
    """Our pairs in order; one whose text or picture is theirs already names the row."""
    same_text = _known(
        embedder.embed([f"{entry.row['instruction']}\n{entry.row['image_description']}" for entry in theirs]),
        embedder.embed([f"{pair.instruction}\n{pair.image_description}" for pair in pairs]),
        SAME_TEXT,
    )
    their_signs = _signs([entry.picture for entry in theirs])
    own_signs = _signs([run / pair.image_path for pair in pairs])
    threshold = cosine_of_difference(SAME_PICTURE)
    same_picture = _known(np.concatenate([their_signs, mirrored(their_signs)]), own_signs, threshold)
    judged = []
    for place, pair in enumerate(pairs):
        for known, what in ((same_text, "says"), (same_picture, "shows")):
            if place in known and pair.rejected is None:
                twin = f"{name}/{theirs[known[place] % len(theirs)].row['instruction_id']}"
                pair = pair.reject(STAGE, "in_other_benchmark", f"{what} the same as {twin}", twin=twin)
        judged.append(pair)
    return judged


def _known(theirs: Vectors, ours: Vectors, threshold: float) -> dict[int, int]:
    """Our place -> their nearest, where that is near enough."""
    rows, cosines = nearest(ours, theirs)
    return {place: int(rows[place]) for place in np.nonzero(cosines >= threshold)[0].tolist()}


def _signs(paths: Sequence[Path]) -> Vectors:
    """(n, BITS) fingerprints; zeros, near to nothing, for a picture that cannot be used."""
    blank = np.zeros(BITS, np.float32)
    signs = [blank if look.signs is None else look.signs for look in look_at_pictures(paths)]
    return np.stack(signs) if signs else np.zeros((0, BITS), np.float32)
