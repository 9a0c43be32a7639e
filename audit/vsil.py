"""The auditor as a library: three lines score a list of pairs.

from audit.vsil import score_pairs

for audit in score_pairs(queries, descriptions):
    print(audit.leakage, audit.leaks, audit.query_spans)
"""

from __future__ import annotations

from collections.abc import Sequence

from audit.auditor import Auditor
from audit.calibrations import load_calibration
from data.embedders import load_embedder
from data.records import Audit

__all__ = ["Audit", "Auditor", "load_calibration", "load_embedder", "score_pairs"]


def score_pairs(
    queries: Sequence[str],
    descriptions: Sequence[str | None],
    *,
    embedder: str = "minilm",
    false_discovery_rate: float = 0.05,
) -> list[Audit]:
    """One `Audit` per pair, in order; give a whole benchmark in one call, for its descriptions are the pool.

    `descriptions` say what the images show; where one is None or empty, or a query is, the pair is not scored and
    `unscored_because` says why. `UserError` for an embedder without a calibration, or a rate
    that does not lie between 0 and 1.
    """
    auditor = Auditor(
        load_embedder(embedder), load_calibration(embedder), false_discovery_rate=false_discovery_rate
    )
    return auditor.score(queries, descriptions)
