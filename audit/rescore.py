"""`python -m audit.rescore STAGE.jsonl`: the auditor at the end of a pipe, for rooms that cannot import it.

The descriptions in the rows of STAGE.jsonl are the pool. It says {"ready": N}; then a line in is
{"query": "...", "description": "...", "origin": "author"} and a line out the pair's `Audit`. A line with a list of
such pairs has them audited together, each other's pool, as a stage does; a list of `Audit`s comes out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError, run_cli
from data.rows import read_rows
from data.sources.columns import clean

if TYPE_CHECKING:
    from audit.auditor import Auditor
    from audit.pool import Pool


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m audit.rescore", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pool", type=Path, metavar="STAGE.jsonl", help="rows whose descriptions are the pool")
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    parser.add_argument(
        "--rate", type=float, default=0.05, help="false-discovery rate of flags (default: 0.05)"
    )
    arguments = parser.parse_args()
    auditor, pool, size = _auditor(arguments.pool, arguments.embedder, arguments.rate)
    print(json.dumps({"ready": size}), flush=True)
    for line in filter(str.strip, sys.stdin):
        try:
            asked = json.loads(line)
            together = isinstance(asked, list)
            pairs = [_texts(pair) for pair in (asked if together else [asked])]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError("A line in is JSON with query, description and origin, each a text.") from error
        columns = [[pair[place] for pair in pairs] for place in range(3)]
        audits = auditor.score(*columns, pool=None if together else pool)
        said = [audit.model_dump_json() for audit in audits]
        print(f"[{', '.join(said)}]" if together else said[0], flush=True)
    return 0


def _texts(pair: dict[str, str]) -> tuple[str, str, str]:
    return clean(pair["query"]), clean(pair["description"]), clean(pair["origin"])


def _auditor(path: Path, embedder: str, rate: float) -> tuple[Auditor, Pool, int]:
    """The auditor, the pool for pairs that come alone, and how many descriptions it is made of."""
    from audit.auditor import Auditor
    from audit.calibrations import load_calibration
    from data.embedders import load_embedder

    if not path.is_file():
        raise UserError(f"There are no rows at {path}: name a stage file of a run.")
    described = [text for row in read_rows(path) if (text := row.get("image_description"))]
    if not described:
        raise UserError(f"No row of {path} has an image_description.")
    auditor = Auditor(load_embedder(embedder), load_calibration(embedder), false_discovery_rate=rate)
    return auditor, auditor.pool(described), len(described)


if __name__ == "__main__":
    run_cli(main, when_stopped="It keeps nothing.")
