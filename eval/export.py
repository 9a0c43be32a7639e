"""`python -m eval.export lmms-eval DIR`: a benchmark as a ready task folder for lmms-eval.

    DIR/leakfree/leakfree.yaml       the task
    DIR/leakfree/utils.py            what it shows and counts; needs nothing of this project
    DIR/leakfree/data/test.parquet   questions and pictures

Then `lmms-eval --include_path DIR --tasks leakfree --model ...`. Its figure is refusal by the string
baseline; the answers it logs can be judged by any judge.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli, unknown

FORMATS = ("lmms-eval",)
ABOUT = "Writes a benchmark as a task folder for another harness: lmms-eval."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.export", description=ABOUT)
    parser.add_argument("format", metavar="FORMAT", help="lmms-eval")
    parser.add_argument("out", type=Path, metavar="DIR", help="where the task folder goes")
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder with data.json and imgs/")
    parser.add_argument("--name", default="leakfree", help="of the task (default: leakfree)")
    arguments = parser.parse_args()
    if arguments.format not in FORMATS:
        raise unknown("format", arguments.format, FORMATS)
    from data.pages.page import plural
    from eval.lmms_task import write_task

    folder, left_out = write_task(arguments.out, arguments.data, arguments.name)
    print(f"task       {folder}")
    if left_out:
        print(f"left out   {plural(left_out, 'row')} without a picture file")
    print(f"run it     lmms-eval --include_path {arguments.out} --tasks {arguments.name} --model MODEL")
    return 0


if __name__ == "__main__":
    run_cli(main)
