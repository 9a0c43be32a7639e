"""The auditor against labelled pairs: does it rank leaks first, with probabilities that can be believed?

    python -m audit.validate pairs.jsonl other.jsonl --json

Each line is {"id", "family", "pair_id", "query", "image_description", "leak": 0 or 1}. A family that took
part in the calibration's fit is judged by the coefficients fitted without it ("left out" in the table); a rated
benchmark, of which probe, risk space and cross-encoder read texts, by ones that did not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit import eyes
from data.errors import UserError, run_cli
from data.records import Record

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from audit.auditor import Auditor
    from audit.calibrations import Calibration
    from audit.labelled import LabelledPair
    from audit.prototypes import Prototypes
    from data.embedders import Embedder

FALSE_POSITIVE_RATE = 0.05
EXIT_NOTHING_SCORED = 3
WIDE = 160


class FamilyFigures(Record):
    """One family's figures, 0 to 1; None where a family lacks the kind of pair that a figure is about."""

    family: str
    fit: str  # `Calibration.had`
    pairs: int
    leaking: int  # of the pairs, scored or not
    unscored: int
    unscored_leaking: int  # of `leaking`: in none of the figures below
    unscored_because: dict[str, int]  # reason -> pairs, the commonest first
    auroc: float | None
    tpr: float | None  # of leaking pairs, at 5 % false positives within the family
    fpr: float | None  # of leak-free pairs, at leakage 0.5
    small_p: float | None  # share of leak-free pairs with p <= 0.05; 0.05 is right
    calibration_error: float | None
    swapped_auroc: float | None  # the same leaking queries with their own image against another's


class Validation(Record):
    """All families, and the means of those that have both kinds of pair."""

    embedder: str
    families: tuple[FamilyFigures, ...]
    macro: dict[str, float | None]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m audit.validate", description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl", help="labelled pairs")
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    parser.add_argument("--calibration", metavar="FILE", help="default: the one shipped for the embedder")
    parser.add_argument("--prototypes", type=Path, metavar="FILE", help="risk phrases of another taxonomy")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--from-images", action="store_true",
        help="judge by what the images show, not by the given descriptions",
    )  # fmt: skip
    shown.add_argument(
        "--as-captions", action="store_true",
        help="put the openings and neutral sentences of captioning models around the given descriptions",
    )  # fmt: skip
    parser.add_argument(
        "--leak-free-only", action="store_true",
        help="judge the pairs that do not leak by themselves, as a benchmark without leaks: 5 %% should have p <= 0.05",
    )  # fmt: skip
    eyes.add_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    from audit.calibrations import load_calibration
    from audit.console import printable
    from audit.embedding_cache import watched_and_kept
    from audit.labelled import captioned, read_labelled
    from audit.prototypes import load_prototypes
    from data.embedders import find_embedder

    load_embedder = find_embedder(arguments.embedder)
    calibration = load_calibration(arguments.calibration or arguments.embedder)
    prototypes = load_prototypes(arguments.prototypes) if arguments.prototypes else None
    eyes.check(arguments)
    labelled = [(file, read_labelled(file)) for file in arguments.files]  # all before pictures: captions cost
    pairs = [
        pair
        for file, own in labelled
        for pair in (seen_pairs(file, own, arguments) if arguments.from_images else own)
    ]
    if not pairs:
        raise UserError("There are no labelled pairs in these files.")
    if arguments.leak_free_only:
        pairs = [pair for pair in pairs if pair.leak == 0]
        if not pairs:
            raise UserError("Every pair in these files leaks: --leak-free-only leaves none.")
    pairs = captioned(pairs) if arguments.as_captions else pairs
    with watched_and_kept(load_embedder(), eyes.cache_folder(arguments), fast=False) as embedder:
        validation = validate(embedder, calibration, pairs, prototypes)
    if arguments.json:
        print(json.dumps(validation.model_dump()))
    else:
        _print_table(validation)
    empty = [family.family for family in validation.families if family.unscored == family.pairs]
    if empty:
        names = printable(", ".join(empty))
        print(f"Nothing was scored of {names}: there it says nothing of the auditor.", file=sys.stderr)
    return EXIT_NOTHING_SCORED if empty else 0


def validate(
    embedder: Embedder,
    calibration: Calibration,
    pairs: Sequence[LabelledPair],
    prototypes: Prototypes | None = None,
) -> Validation:
    """The figures of every family, each with its own descriptions as the pool."""
    from audit.auditor import Auditor
    from audit.labelled import source_of

    families = []
    for family in dict.fromkeys(pair.family for pair in pairs):
        own = [pair for pair in pairs if pair.family == family]
        source = source_of(own[0])
        auditor = Auditor(embedder, calibration.without(source), prototypes=prototypes)
        families.append(judge_family(auditor, family, calibration.had(source), own))
    return Validation(embedder=embedder.name, families=tuple(families), macro=_macro(families))


def seen_pairs(
    file: Path, pairs: Sequence[LabelledPair], arguments: argparse.Namespace
) -> list[LabelledPair]:
    """The file's pairs with what their images show in place of the given descriptions."""
    from audit.console import printable
    from audit.descriptions import describe, problems_of
    from data.pages.page import plural
    from data.sources.reader import read_source

    source = read_source(str(file), data_root=arguments.image_root)
    rows = [row.replace(image_description=None) for row in source.rows]
    with eyes.opened(arguments) as open_eyes:
        contents = describe(rows, open_eyes, problems_of(source))
    for reason, number in Counter(content.missing for content in contents if content.missing).most_common():
        print(printable(f"{file}: {plural(number, 'row')}: {reason}"), file=sys.stderr)
    return [
        pair.replace(image_description=content.text or "", origin=content.origin or "author")
        for pair, content in zip(pairs, contents, strict=True)
    ]


def judge_family(auditor: Auditor, family: str, fit: str, pairs: Sequence[LabelledPair]) -> FamilyFigures:
    """One family's figures; pairs that cannot be scored are counted, not judged."""
    import numpy as np

    from audit import metrics
    from audit.labelled import swapped

    audits = auditor.score(
        [pair.query for pair in pairs],
        [pair.image_description for pair in pairs],
        [pair.origin for pair in pairs],
    )
    scored = [(pair, audit) for pair, audit in zip(pairs, audits, strict=True) if audit.leakage is not None]
    lost = [(pair, audit) for pair, audit in zip(pairs, audits, strict=True) if audit.leakage is None]
    leak = np.array([pair.leak for pair, _ in scored], np.float64)
    leakage = np.array([audit.leakage for _, audit in scored], np.float64)
    p_values = np.array([audit.p_value for _, audit in scored], np.float64)
    other = swapped([pair for pair, _ in scored], lambda pair: pair.leak == 1)
    pool = auditor.pool([pair.image_description for pair, _ in scored]) if other else None
    shown = [pair.image_description for pair in other]
    there = auditor.score([pair.query for pair in other], shown, [pair.origin for pair in other], pool=pool)
    against = np.array([audit.leakage for audit in there], np.float64)
    true_or_not = np.repeat([1.0, 0.0], [int(leak.sum()), len(against)])
    return FamilyFigures(
        family=family,
        fit=fit,
        pairs=len(pairs),
        leaking=sum(pair.leak for pair in pairs),
        unscored=len(lost),
        unscored_leaking=sum(pair.leak for pair, _ in lost),
        unscored_because=dict(Counter(str(audit.unscored_because) for _, audit in lost).most_common()),
        auroc=_rounded(metrics.auroc(leak, leakage)),
        tpr=_rounded(metrics.tpr_at(leak, leakage, FALSE_POSITIVE_RATE)),
        fpr=_rounded(metrics.share_above(leakage[leak == 0], 0.5)),
        small_p=_rounded(metrics.share_above(-p_values[leak == 0], -0.05)),
        calibration_error=_rounded(metrics.calibration_error(leak, leakage)),
        swapped_auroc=_rounded(metrics.auroc(true_or_not, np.concatenate([leakage[leak == 1], against]))),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _macro(families: Sequence[FamilyFigures]) -> dict[str, float | None]:
    """Means over the families that have the figure."""
    macro = {}
    for name in ("auroc", "tpr", "fpr", "small_p", "calibration_error", "swapped_auroc"):
        values = [getattr(family, name) for family in families if getattr(family, name) is not None]
        macro[name] = _rounded(sum(values) / len(values)) if values else None
    return macro


def _print_table(validation: Validation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from audit.console import printable

    console = Console()
    if not console.is_terminal:
        console.width = WIDE  # a file has no edge to wrap at
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("family", "fit", "pairs", "leak", "not\nscored"):
        justify: JustifyMethod = "left" if heading in ("family", "fit") else "right"
        table.add_column(heading, justify=justify, no_wrap=justify == "right")
    columns = {
        "AUROC": "auroc", "TPR": "tpr", "FPR": "fpr", "small\np": "small_p", "ECE": "calibration_error",
        "swap-\nped": "swapped_auroc",
    }  # fmt: skip
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for family in validation.families:
        counts = (str(family.pairs), str(family.leaking), str(family.unscored))
        figures = (_cell(getattr(family, name)) for name in columns.values())
        table.add_row(Text(printable(family.family)), family.fit, *counts, *figures)
    table.add_section()
    table.add_row("macro", "", "", "", "", *(_cell(validation.macro[name]) for name in columns.values()))
    console.print(table)
    for family in validation.families:
        if family.unscored:
            console.print(Text(_unscored(family)), soft_wrap=True)
    console.print(
        "[dim]left out: everything was fitted without this family; partly: its coefficients were, but probe and "
        "risk space know its texts; fitted on, learned from (by the cross-encoder): the figures flatter; unseen: "
        "nothing was fitted on it. TPR: "
        "of leaking pairs at 5 % false positives; FPR: of leak-free pairs at leakage 0.5; small p: share of "
        "leak-free pairs with p <= 0.05 (exact: 0.05); ECE: expected calibration error; swapped: AUROC of the "
        "leaking queries with their own image against another.[/]",
        soft_wrap=True,
    )


def _unscored(family: FamilyFigures) -> str:
    """What is in none of a family's figures, and why."""
    from audit.console import printable

    reasons = "; ".join(f"{reason} ({number:,})" for reason, number in family.unscored_because.items())
    return (
        f"{printable(family.family)}: {family.unscored:,} of {family.pairs:,} pairs, {family.unscored_leaking:,} of "
        f"them leaking, were not scored and are in no figure: {reasons}"
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


if __name__ == "__main__":
    run_cli(main)
