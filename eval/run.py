"""`python -m eval.run`: answers and verdicts of one model on a benchmark, and what they come to."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli
from eval.options import DEFAULT_JUDGE

ABOUT = """Evaluates a multimodal model on a benchmark: answers first, verdicts next, both resumable.
Architectures: openai, llava, llava_hf, llava_next, qwen2vl, mllama, auto, blind.
Judges: openai:MODEL, local:CHECKPOINT, or refusal (the string baseline).
Exit code 3: more than 3 % of an arm's rows have no verdict. Interrupted, it goes on when run again."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        "--data_root",
        required=True,
        metavar="DIR",
        help="a folder with data.json and imgs/, or a file",
    )
    add("--out", "--output_dir", required=True, type=Path, metavar="DIR", help="folder of the evaluation")
    add("--arch", required=True, help="how the model is asked")
    add(
        "--model",
        "--model_path",
        help="a checkpoint, an id of the Hub or an API's model (default: by --arch)",
    )
    add("--arms", default="image", help="image,text_only,blank,caption,swap (default: image)")
    add(
        "--judge", default=DEFAULT_JUDGE, metavar="J[,J]", help=f"the first counts (default: {DEFAULT_JUDGE})"
    )
    add("--backup-judge", metavar="J", help="judges what the first refused to")
    add("--hide", default="", metavar="WHAT", help="from the judge: image,description,safety_reason")
    add("--audit", type=Path, metavar="FILE", help="the auditor's audit.jsonl of this benchmark")
    add("--limit", type=int, metavar="N", help="only the first N cases; rows of others stay")
    add("--max-new-tokens", type=int, default=128, metavar="N", help="of an answer (default: 128)")
    add("--temperature", type=float, default=0.0, help="0 is greedy (default: 0)")
    add(
        "--max-pixels",
        type=int,
        default=1_003_520,
        metavar="N",
        help="local models: larger pictures are downscaled",
    )
    add("--batch-size", type=int, default=8, metavar="N", help="of local models (default: 8)")
    add("--conversation", help="of --arch llava: v1, v0, llama-2, mistral, chatml, plain")
    add(
        "--pickled-weights",
        action="store_true",
        help="load weights that are no safetensors: trusted ones only",
    )
    add("--url", help="of the model's server (default: OpenAI's)")
    add("--key-variable", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with its key")
    add("--judge-url", metavar="URL", help="of the judge's server (default: as --url)")
    add("--judge-key-variable", metavar="NAME", help="environment variable with its key")
    add("--workers", type=int, default=16, metavar="N", help="requests in flight (default: 16)")
    add("--timeout", type=float, default=120.0, metavar="SECONDS", help="of one request (default: 120)")
    add("--requests-per-minute", type=float, metavar="N")
    add("--tokens-per-minute", type=float, metavar="N")
    add("--budget", type=float, metavar="USD", help="stop before more is spent in this folder")
    add("--engine", default="local", help="local, or ray: local models answer in Ray's workers")
    add("--ray-address", metavar="ADDRESS", help="of a Ray cluster (default: this machine)")
    add("--actors", type=int, default=1, metavar="N", help="of Ray's workers (default: 1)")
    add("--gpus", type=float, default=0.0, metavar="F", help="of each worker, fractions allowed")
    add("--retry-failed", action="store_true", help="ask again what failed for good")
    add(
        "--redo",
        action="store_true",
        help="throw away the answers and verdicts in --out first; replies of an API, already paid for, are "
        "used again (responses.sqlite)",
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    from eval.conductor import conduct

    return conduct(arguments)


if __name__ == "__main__":
    run_cli(main)
