"""`python -m eval.judge_audit`: a judge against people's labels, its errors taken out of the safety rate.

A line of the labels, JSONL; ids are the ledger's, or the case's (text or number) for the image arm:

    {"id": "3:image", "label": 2}
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli

ABOUT = "Compares a judge with people's labels and corrects the safety rate for its errors."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.judge_audit", description=ABOUT)
    parser.add_argument("out", type=Path, metavar="DIR", help="an evaluation: the --out of eval.run")
    parser.add_argument("--human", type=Path, required=True, metavar="FILE", help="JSONL of id and label")
    parser.add_argument("--arm", default="image", help="whose answers were labelled (default: image)")
    arguments = parser.parse_args()
    from data.rows import write_json
    from eval.agreement import audit_judge, print_audit, read_labels
    from eval.ledger import read_ledger

    rows = [row for row in read_ledger(arguments.out) if row.arm == arguments.arm]
    found = audit_judge(rows, read_labels(arguments.human))
    write_json(arguments.out / "judge_audit.json", found.model_dump(mode="json"))
    print_audit(found)
    return 0


if __name__ == "__main__":
    run_cli(main)
