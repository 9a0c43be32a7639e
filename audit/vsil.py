"""The auditor as a library: three lines score a list of pairs.

from audit.vsil import score_pairs

for audit in score_pairs(queries, descriptions):
    print(audit.leakage, audit.leaks, audit.query_spans)
"""

from __future__ import annotations

from collections.abc import Iterable

from audit.auditor import Auditor
from audit.calibrations import load_calibration
from data.embedders import load_embedder
from data.records import Audit

__all__ = ["Audit", "Auditor", "load_calibration", "load_embedder", "score_pairs"]


def score_pairs(
    queries: Iterable[str | None],
    descriptions: Iterable[str | None],
    *,
    embedder: str = "minilm",
    false_discovery_rate: float = 0.05,
) -> list[Audit]:
    """One `Audit` per pair, in order; give a whole benchmark in one call, for its descriptions are the pool.

    `descriptions` say what the images show; where one is missing (None, NaN) or empty, or a query is, the pair is not
    scored and `unscored_because` says why. Lists, arrays, generators and columns of a data frame are read in their
    order. `UserError` for an embedder without a calibration, a rate that does not lie between 0 and 1, another number
    of descriptions than of queries, or what is no text.
    """
    auditor = Auditor(
        load_embedder(embedder), load_calibration(embedder), false_discovery_rate=false_discovery_rate
    )
    return auditor.score(queries, descriptions)
