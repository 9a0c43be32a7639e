"""`python -m construct.run`: builds a leak-free benchmark, from risky elements to the finished folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli

ALL = "all"
ABOUT = """Builds a multimodal safety benchmark whose text does not give the danger away.
Stages: elements -> describe -> (perceive ->) rewrite -> draw -> audit -> verify -> filter -> build.
Interrupt it at any time; the same command goes on from there."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m construct.run",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stage", default=ALL, metavar="STAGE", help="'all', or one stage by name (default: all)"
    )
    parser.add_argument(
        "--profile",
        default="offline",
        help="an embedded profile (local, offline, paper) or a TOML file (default: offline)",
    )
    parser.add_argument(
        "--run", type=Path, help="folder of the run (default: runs/demo offline, else runs/PROFILE)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N pairs, spread over the taxonomy"
    )
    parser.add_argument(
        "--redo", action="append", default=[], metavar="STAGE",
        help="throw away what a stage made and make it again; replies and pictures that are there are used again",
    )  # fmt: skip
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="say what it would take in calls, tokens and money; ask nothing",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SUM",
        help="stop before the run has spent more than this, in the currency of data/llm/prices.toml",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask again where a model refused or failed for good"
    )
    parser.add_argument(
        "--batch", action="store_true", help="ask through the Batch API: half the price, answers within a day"
    )
    parser.add_argument(
        "--engine", default="local", metavar="local|ray",
        help="where models work: in this process, or in Ray's workers by the profile's [engine] (default: local)",
    )  # fmt: skip
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster (default: this machine)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    from construct.conductor import (  # the stages and their libraries: not needed for --help
        Commission,
        conduct,
    )

    return conduct(Commission(**vars(arguments)))


if __name__ == "__main__":
    run_cli(main)
