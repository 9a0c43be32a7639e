"""`python -m eval.vsil`: the paper's VSIL check (Table 1) with any safety classifier.

R1 is the share of pairs judged harmful, R2 the share judged harmful whose text alone is judged harmful
too. R2 / R1 near 1: nearly all of the harm can be read without looking.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli

ABOUT = "The paper's VSIL check (Table 1): R1, R2 and R2/R1 by a safety classifier."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.vsil", description=ABOUT)
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="a folder with data.json and imgs/, or a file")
    add("--guard", required=True, help="blind, openai:MODEL, llama-guard:CHECKPOINT or llavaguard:CHECKPOINT")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the check")
    add("--audit", type=Path, metavar="DIR", help="the auditor's --out, for its prevalence beside the check")
    add("--limit", type=int, metavar="N", help="only the first N rows")
    add(
        "--pickled-weights",
        action="store_true",
        help="load weights that are no safetensors: trusted ones only",
    )
    add("--url", help="of the guard's server (default: OpenAI's)")
    add("--key-variable", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with its key")
    add("--workers", type=int, default=16, metavar="N", help="requests in flight (default: 16)")
    add("--retry-failed", action="store_true", help="ask again what failed for good")
    options = parser.parse_args()
    from eval.vsil_check import run_check

    return run_check(options)


if __name__ == "__main__":
    run_cli(main)
