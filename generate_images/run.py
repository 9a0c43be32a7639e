"""`python -m generate_images.run`: draws the prompts of a file, and nothing else.

PROMPTS.jsonl has one row per picture; width and height are optional:

    {"id": "kite-1", "prompt": "A red kite over a beach at noon, two children run below it."}
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import run_cli

ABOUT = """Draws the prompts of a JSONL file (rows {"id": ..., "prompt": ...}) into a folder.
Interrupt it at any time; the same command goes on from there. Exit codes: 0 every row has its picture
or a reason why not, 2 something to put right, 3 some rows failed: they are tried again next time, those
that a model or server refused with --retry-failed."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m generate_images.run",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("prompts", type=Path, metavar="PROMPTS.jsonl", help="rows {id, prompt[, width, height]}")
    add(
        "--generator",
        required=True,
        metavar="G",
        help="sketch, diffusers:OWNER/MODEL, diffusers:FOLDER or openai-images:MODEL",
    )
    add("--out", required=True, type=Path, metavar="DIR", help="folder for draw.jsonl and images/")
    add("--limit", type=int, metavar="N", help="only the first N rows; what is drawn beyond them stays")
    add("--format", default="png", choices=("png", "webp"), help="of the pictures (default: png)")
    add(
        "--contact-sheet", action="store_true", help="also write DIR/contact-sheet.png, of the first 100 rows"
    )
    add("--redo", choices=("draw",), help="forget the rows in DIR and make them again")
    add("--retry-failed", action="store_true", help="ask again where a model or server failed for good")
    _add_picture_options(parser.add_argument_group("the picture (default: the model's preset)"))
    _add_loop_options(parser.add_argument_group("trying again"))
    _add_machine_options(parser.add_argument_group("the machine"))
    return parser.parse_args()


def _add_picture_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=int, metavar="N", help="denoising steps")
    add("--guidance", type=float, metavar="X", help="how closely to follow the prompt")
    add("--width", type=int, metavar="PX")
    add("--height", type=int, metavar="PX")
    add("--negative-prompt", metavar="TEXT", help="what to keep out of the picture")
    add("--max-sequence-length", type=int, metavar="N", help="tokens a T5 encoder is given")
    add("--scheduler", metavar="CLASS", help="a scheduler class of diffusers")
    add("--dtype", choices=("auto", "float32", "float16", "bfloat16"))
    add("--revision", metavar="REV", help="commit, tag or branch of a Hub model")
    add("--no-safety-checker", action="store_false", dest="safety_checker", default=None,
        help="leave out a checker that the model brings")  # fmt: skip


def _add_loop_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--critic", metavar="MODEL", help="a multimodal chat model that judges pictures and mends prompts")
    add("--critic-url", metavar="URL", help="its OpenAI-compatible server (default: OpenAI's)")
    add("--critic-key-variable", metavar="NAME", help="environment variable of its key (OPENAI_API_KEY)")
    add("--rounds", type=int, metavar="N", help="redraws with a mended prompt at most (default: 3)")
    add("--good-enough", type=float, metavar="X", help="match, 0 to 1, that ends it (default: 0.8)")
    add("--least-match", type=float, metavar="X", help="match below which a picture is rejected (0.5)")
    add("--similarity", metavar="MODEL", help="a CLIP or SigLIP, folder or Hub id, that helps to choose")
    add("--best-of", type=int, metavar="K", help="seeds that compete by --similarity, without a critic (1)")
    add("--retries", type=int, metavar="N", help="other seeds for a black or blank picture (default: 2)")


def _add_machine_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:1, mps, xpu (default: auto)")
    add("--batch-size", type=int, metavar="N", help="pictures at once (default: found by measuring)")
    add(
        "--exact",
        action="store_true",
        default=None,
        help="one picture at a time: its bits then cannot depend on its company",
    )
    add("--offload", choices=("none", "model", "sequential"), help="weights wait in main memory")
    add("--encoders", choices=("auto", "keep", "release"), help="text encoders while it denoises")
    add("--compile", action="store_true", default=None, help="torch.compile the denoiser")
    add("--base-url", metavar="URL", help="an Images-API server of your own")
    add("--key-variable", metavar="NAME", help="environment variable of an Images-API server's key")
    add("--timeout-seconds", type=float, metavar="S", help="for one picture of an Images-API server")
    add("--workers", type=int, metavar="N", help="requests in flight to an Images-API server")  # fmt: skip


def main() -> int:
    arguments = parse_arguments()
    from generate_images.conduct import conduct  # the libraries: not needed for --help

    return conduct(arguments)


if __name__ == "__main__":
    run_cli(main)
