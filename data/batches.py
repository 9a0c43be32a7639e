"""Texts of like length together, so that a model that pads them to the longest computes little for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LEAST_OF_LONGEST = 0.75  # characters of the shortest text of a batch, as a share of its longest's
SHORT = 4  # characters that make no difference


def batches_by_length(lengths: Sequence[int], most_rows: int, most_characters: int) -> Iterator[list[int]]:
    """Rows of like length, the longest first: at most so many in a batch, padded to at most so many characters."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        most = max(1, min(most_rows, most_characters // max(longest, 1)))
        end = start + 1
        while (
            end < min(start + most, len(order)) and lengths[order[end]] >= LEAST_OF_LONGEST * longest - SHORT
        ):
            end += 1
        yield order[start:end]
        start = end
