r"""Fits the combination of features for an embedder on labelled pairs, and keeps what it needs to be checked.

    python -m audit.calibrate construct/offline/scenes/*.toml audit/calibration/plain_questions.jsonl \
        audit/calibration/situations/*.toml labelled/*.jsonl rated.jsonl \
        --embedder minilm --ocr figstep mm_safetybench

Every family weighs the same. Beside the given pairs stand made ones: leaking queries with another image,
harmful queries with another image, plain questions about one thing in a scene. Coefficients are kept from
falling below zero, strongly regularised, and rescaled afterwards, so that they rank by what families share.
Where the embedder shows its layers, a probe for risk is fitted on them first, and a risk space, both on scenes,
situations and benchmarks with rated pairs (`audit.rated`); a pair is then measured by those that saw no text of its
sub-category, writer or fold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from audit import eyes
from data.errors import UserError, run_cli

if TYPE_CHECKING:
    from audit.calibrations import Calibration

NUMBERS = re.compile(r'\[[\d\s.,e+-]*\]|\{(?:\s*"\w+": [\d.e+-]+,?)+\s*\}')  # lists and tables of them


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m audit.calibrate", description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="labelled JSONL or scene TOML")
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    parser.add_argument(
        "--ocr", nargs="*", default=(), metavar="FAMILY", help="families whose descriptions are images' text"
    )
    parser.add_argument(
        "--cross-encoder", nargs="*", default=(), type=Path, metavar="FOLDER",
        help="from audit.cross_encoder: the one to use, and others for the pairs that it learned from",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: where the embedder's is shipped")
    eyes.add_cache_flags(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from audit.calibrations import calibration_file, trained_on, with_folders
    from audit.embedding_cache import watched_and_kept
    from audit.fit import fit_calibration
    from audit.labelled import LabelledPair, object_pairs, read_labelled
    from audit.probe import pair_texts, prototype_texts, query_texts, scene_texts, situation_texts
    from audit.prototypes import load_prototypes
    from data.embedders import load_embedder
    from data.rows import check_writable, write_text

    embedder = load_embedder(arguments.embedder)
    out = arguments.out or calibration_file(arguments.embedder)
    if out.is_dir():
        raise UserError(f"--out names a file; {out} is a folder.")
    check_writable(out.parent)
    trained = [trained_on(folder) for folder in arguments.cross_encoder]
    pairs: list[LabelledPair] = []
    texts = [*query_texts(), *prototype_texts(load_prototypes())]
    for file in arguments.files:
        own = read_labelled(file)
        pairs += own
        try:
            if file.suffix == ".toml" and own and own[0].writer:
                texts += situation_texts(file)
            elif file.suffix == ".toml":
                pairs += object_pairs(file, embedder)
                texts += scene_texts(file)
        except KeyError as error:
            raise UserError(f"{file}: a scene has no {error}.") from error
    texts += pair_texts(pair for pair in pairs if pair.fold)
    if {pair.leak for pair in pairs} != {0, 1}:
        raise UserError("A calibration needs pairs that leak and pairs that do not: give more files.")
    with watched_and_kept(embedder, eyes.cache_folder(arguments), fast=False) as cached:
        calibration = fit_calibration(cached, pairs, arguments.ocr, texts, trained)
    write_text(out, as_json(with_folders(calibration, lambda folder: os.path.relpath(folder, out.parent))))
    print("\n".join(f"{name}: {said}" for name, said in calibration.provenance.items()))
    print(f"{out}: {', '.join(f'{name} {term.weight:.2f}' for name, term in calibration.terms.items())}")


def as_json(calibration: Calibration) -> str:
    """Readable JSON: numbers side by side in lines of a readable width."""
    text = json.dumps(calibration.model_dump(mode="json"), indent=1)
    return NUMBERS.sub(lambda found: _wrapped(found[0]), text) + "\n"


def _wrapped(numbers: str) -> str:
    return "\n   ".join(textwrap.wrap(" ".join(numbers.split()), 104))


if __name__ == "__main__":
    run_cli(main, when_stopped="What was embedded is kept; the fit starts anew.")
