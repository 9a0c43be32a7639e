"""Near-duplicates: of two pairs that say or show the same the better one stays; the other points to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data.fingerprints import BITS, Look, cosine_of_difference, mirrored
from data.neighbours import Likeness, Twin, Vectors, find_repeats
from data.records import Check, Pair
from filter.gates import STAGE


class RepeatGate(NamedTuple):
    """A likeness that stops the worse of two alike; `words` say it of the twin's id and the cosine."""

    name: str
    limit: float
    likeness: Likeness
    words: str


def texts_gate(vectors: Vectors, threshold: float) -> RepeatGate:
    """`vectors` is (n, d): the embedding of each pair's query and description."""
    likeness = Likeness(vectors, threshold)
    return RepeatGate("near_duplicate_text", threshold, likeness, "says the same as {} (cosine {:.2f})")


def fingerprints_gate(looks: Sequence[Look], most_different: float) -> RepeatGate:
    """By perceptual fingerprint, mirrored too; `most_different` is the share of signs that may differ."""
    unseen = np.zeros(BITS, np.float32)  # like nothing
    signs = np.array([unseen if look.signs is None else look.signs for look in looks], np.float32)
    signs = signs.reshape(-1, BITS)
    likeness = Likeness(signs, cosine_of_difference(most_different), mirrored(signs))
    return RepeatGate(
        "near_duplicate_image", likeness.threshold, likeness, "its picture is {}'s (fingerprint {:.2f})"
    )


def pictures_gate(vectors: Vectors, threshold: float) -> RepeatGate:
    """By an image embedder: `vectors` is (n, d), one row per pair's picture."""
    likeness = Likeness(vectors, threshold)
    return RepeatGate("near_duplicate_image", threshold, likeness, "its picture shows {}'s (cosine {:.2f})")


def reject_repeats(pairs: Sequence[Pair], gates: Sequence[RepeatGate]) -> list[Pair]:
    """The pairs in their order. Of two alike by any gate the better stays; none goes for one that goes itself."""
    repeats = find_repeats([gate.likeness for gate in gates], best_first(pairs))
    result = list(pairs)
    for row, pair in enumerate(pairs):
        if pair.rejected is None:
            result[row] = _through(pair, gates, repeats.get(row), pairs)
    return result


def _through(pair: Pair, gates: Sequence[RepeatGate], twin: Twin | None, pairs: Sequence[Pair]) -> Pair:
    """The pair with the checks of the gates it passes and of the one that stops it, if any."""
    for gate in gates if twin is None else gates[: twin.by]:
        pair = _with(pair, Check(gate=gate.name, passed=True, limit=gate.limit))
    if twin is None:
        return pair
    gate, stays = gates[twin.by], pairs[twin.row].id
    detail = gate.words.format(stays, twin.cosine)
    check = Check(gate=gate.name, passed=False, score=round(twin.cosine, 4), limit=gate.limit, reason=detail)
    return _with(pair, check).reject(STAGE, gate.name, detail, twin=stays)


def best_first(pairs: Sequence[Pair]) -> list[int]:
    """Rows of the pairs still running: less leakage first, then the better match; the id decides a tie."""
    running = [row for row, pair in enumerate(pairs) if pair.rejected is None]
    return sorted(
        running, key=lambda row: (round(leakage_of(pairs[row]), 2), -match_of(pairs[row]), pairs[row].id)
    )


def leakage_of(pair: Pair) -> float:
    """0 to 1; the gates before this let only scored pairs through."""
    assert pair.audit is not None and pair.audit.leakage is not None
    return pair.audit.leakage


def match_of(pair: Pair) -> float:
    """0 to 1: how well picture and text fit, by the MLLM's check or by the critic that saw it drawn."""
    check = pair.check("mismatch")
    if check is not None and check.score is not None:
        return check.score
    attempts = pair.drawing.attempts if pair.drawing else ()
    return max((each.match for each in attempts if each.match is not None), default=0.0)


def _with(pair: Pair, check: Check) -> Pair:
    """The pair with one more check; a second look by the same gate replaces its first."""
    others = [each for each in pair.checks if each.gate != check.gate]
    return pair.replace(checks=(*others, check))
