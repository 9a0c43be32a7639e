"""`python -m audit.rescore STAGE.jsonl`: the auditor at the end of a pipe, for rooms that cannot import it.

The descriptions in the rows of STAGE.jsonl are the pool. It says {"ready": N}; then a line in is
{"query": "...", "description": "...", "origin": "author"} and a line out the pair's `Audit`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from data.errors import UserError, run_cli
from data.records import Audit
from data.rows import read_rows
from data.sources.columns import clean


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m audit.rescore", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pool", type=Path, metavar="STAGE.jsonl", help="rows whose descriptions are the pool")
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    arguments = parser.parse_args()
    answer, size = _auditor(arguments.pool, arguments.embedder)
    print(json.dumps({"ready": size}), flush=True)
    for line in filter(str.strip, sys.stdin):
        try:
            asked = json.loads(line)
            query, description, origin = (clean(asked[name]) for name in ("query", "description", "origin"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError("A line in is JSON with query, description and origin, each a text.") from error
        print(answer(query, description, origin).model_dump_json(), flush=True)
    return 0


def _auditor(path: Path, embedder: str) -> tuple[Callable[[str, str, str], Audit], int]:
    """What audits one pair, and how many descriptions its pool holds."""
    from audit.auditor import Auditor
    from audit.calibrations import load_calibration
    from data.embedders import load_embedder

    if not path.is_file():
        raise UserError(f"There are no rows at {path}: name a stage file of a run.")
    described = [text for row in read_rows(path) if (text := row.get("image_description"))]
    if not described:
        raise UserError(f"No row of {path} has an image_description.")
    auditor = Auditor(load_embedder(embedder), load_calibration(embedder))
    pool = auditor.pool(described)

    def answer(query: str, description: str, origin: str) -> Audit:
        return auditor.score([query], [description], [origin], pool=pool)[0]

    return answer, len(described)


if __name__ == "__main__":
    run_cli(main, when_stopped="It keeps nothing.")
