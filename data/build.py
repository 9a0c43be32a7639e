"""`python -m data.build RUN`: the finished benchmark, for `datasets` and in VLSBench's own layout.

benchmark/README.md                          dataset card
benchmark/data/test-00000-of-00001.parquet   rows with their pictures inside
benchmark/data.json, benchmark/imgs/0.png    VLSBench's layout
benchmark/charts/*.svg, croissant.json, provenance.jsonl, checksums.sha256
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from data.errors import UserError, run_cli

if TYPE_CHECKING:
    from data.benchmark.assembly import Work
    from data.benchmark.options import Options
    from data.benchmark.publish import Terms
    from data.records import Pair, SubCategory

ABOUT = """Builds the benchmark of a run from the pairs that the filter kept and people approved of. Without an
option that says how, it is built as it was last; where one is given, those given count and no others."""


def main() -> int:
    arguments = _parse_arguments()
    from data.benchmark.publish import Terms, check_name, push
    from data.run_folder import locked
    from data.taxonomy import load_taxonomy

    if not arguments.run.is_dir():
        raise UserError(f"There is no folder {arguments.run}: name a run that construct.run has made.")
    if arguments.push:
        check_name(arguments.push)
    elif arguments.dry_run or arguments.public or arguments.ungated:
        raise UserError("--dry-run, --public and --ungated say how to push: add --push OWNER/NAME.")
    terms = Terms(not arguments.public, not arguments.ungated)
    with locked(arguments.run, "RUN"):
        options = _options(arguments)
        if arguments.dry_run:
            print(rehearse_push(arguments.run, load_taxonomy(), options, arguments.push, terms))
            return 0
        target = build_run(arguments.run, load_taxonomy(), options)
        print(f"benchmark  {target}")
        if arguments.push:
            print(push(target, arguments.push, terms))
    return 0


def _options(arguments: argparse.Namespace) -> Options | None:
    """Those given; None where those of the run's last build count. What that makes of them is said."""
    from data.benchmark.options import Options, flags, last_options

    last = last_options(arguments.run)
    given = {name: getattr(arguments, name) for name in Options.__annotations__}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        if said := flags(last):
            print(f"as last    {' '.join(said.values())}")
        return None
    options = Options(**given)
    left = [words for name, words in flags(last).items() if name not in given]
    if left:
        print(f"note: the last build had {' '.join(left)}, this one has not.", file=sys.stderr)
    return options


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.build", description=ABOUT)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run, filtered; its reviews are applied")
    either = argparse.BooleanOptionalAction
    add("--calibration", action=either, help="add a split of the pairs rejected for leaking")
    add("--reviewed-only", action=either, help="only pairs that people have approved")
    add("--extend", metavar="FOLDER", help="merge with this VLSBench-schema benchmark")
    add("--out", metavar="DIR", help="folder to write (default: RUN/benchmark)")
    add("--date", metavar="YYYY-MM-DD", help="date in the card (default: today)")
    add("--name", help="name in the card (default: the run's)")
    add("--license", help="licence, as the Hub names it (default: the run's)")
    add("--taxonomy", metavar="FILE.toml", help="order of the classes (default: VLSBench's)")
    add("--push", metavar="OWNER/NAME", help="send it to the Hugging Face Hub: private and gated")
    add("--dry-run", action="store_true", help="with --push: say what would go; send and change nothing")
    add("--public", action="store_true", help="with --push: everybody can find it")
    add("--ungated", action="store_true", help="with --push: nobody has to ask for access")
    return parser.parse_args()


def build_run(run: Path, taxonomy: Sequence[SubCategory], options: Options | None = None) -> Path:
    """Bring a run's benchmark up to date with all that it is made of; returns its folder.

    Without options, those of the last build count; their taxonomy wins over the one given here. The folder
    appears whole or not at all. Raises `UserError` when something that no build wrote would be lost with it.
    """
    from data.benchmark.assembly import build_meta
    from data.benchmark.options import target_of
    from data.rows import write_json
    from data.stage_meta import meta_path

    work = _work(run, taxonomy, options)
    target, made_of = target_of(run, work.options), _made_of(work)
    if _is_current(target, run, made_of):
        return target
    _check_replaceable(target)
    made = {"fingerprint": made_of, "settings": _settings(work)}
    meta = build_meta(_write(target, work)).model_copy(update=made)
    write_json(meta_path(run, meta.stage), meta.model_dump())
    return target


def rehearse_push(
    run: Path, taxonomy: Sequence[SubCategory], options: Options | None, repository: str, terms: Terms
) -> str:
    """What a push would send. Nothing is sent, and nothing changed: what is not up to date is built aside."""
    from data.benchmark.options import target_of
    from data.benchmark.publish import describe_push

    work = _work(run, taxonomy, options)
    target = target_of(run, work.options)
    if _is_current(target, run, _made_of(work)):
        return f"benchmark  {target}\n{describe_push(target, repository, terms)}"
    _check_replaceable(target)
    with TemporaryDirectory(prefix=".build.", dir=run) as aside:
        _write(Path(aside) / "benchmark", work)
        said = describe_push(Path(aside) / "benchmark", repository, terms)
    return f"benchmark  {target} (not up to date: it would be built first, as is counted here)\n{said}"


def _is_current(target: Path, run: Path, made_of: str) -> bool:
    """Whether the folder is the run's last build, whole, and made of what there is now."""
    from data.benchmark.options import BUILD
    from data.benchmark.provenance import is_whole
    from data.stage_meta import read_meta

    known = read_meta(run, BUILD)
    return known is not None and known.fingerprint == made_of and is_whole(target)


def _settings(work: Work) -> dict[str, object]:
    return {"options": asdict(work.options), "plan": work.plan.model_dump(mode="json")}


def _made_of(work: Work) -> str:
    """A digest of what the build depends on; pictures count by size and time."""
    from data.benchmark.assembly import stage_metas
    from data.stage_meta import digest

    records = [*work.taxonomy, *work.filtered, *work.judged, *work.reviews]
    parts = [json.dumps(_settings(work)), *(record.model_dump_json() for record in records)]
    parts += ["" if work.options.date else os.environ.get("SOURCE_DATE_EPOCH", "")]
    not_told = {"seconds", "fresh", "made_of"}  # in the card
    parts += [meta.model_dump_json(exclude=not_told) for meta in stage_metas(work)]
    parts += [json.dumps([entry.row, *_seen(entry.picture)]) for entry in work.theirs]
    parts += [json.dumps(_seen(work.run / pair.image_path)) for pair in work.filtered]
    return digest("".join(parts))


def _seen(picture: Path) -> list[int]:
    """A picture file's size and time; nothing where there is none."""
    return [picture.stat().st_size, picture.stat().st_mtime_ns] if picture.is_file() else []


def _work(run: Path, taxonomy: Sequence[SubCategory], asked: Options | None) -> Work:
    """What there is to build: the filter's rows, what people made of those it kept, and what is extended."""
    from data.benchmark.assembly import Work
    from data.benchmark.layout import read_layout
    from data.benchmark.options import BUILD, anchored, last_options
    from data.records import Pair
    from data.reviews import apply_reviews, read_reviews
    from data.run_folder import read_plan
    from data.stage import read_stage
    from data.stage_chain import lacking
    from data.stage_meta import read_meta
    from data.taxonomy import load_taxonomy

    plan = read_plan(run)
    if wanted := lacking(run, plan.stages):  # pictures drawn since, say, that no filter saw
        raise UserError(f"Stage {BUILD!r} needs {wanted}: run --stage all.")
    options = anchored(asked, run) if asked else last_options(run)
    filtered, reviews = list(read_stage(run, plan.stages[-1], Pair)), read_reviews(run)
    kept = [pair for pair in filtered if pair.rejected is None]
    meta = read_meta(run, plan.stages[-1])
    limit = float((meta.settings if meta else {}).get("filter", {}).get("max_leakage", 0.3))
    judged = apply_reviews(kept, reviews, limit, reviewed_only=options.reviewed_only)
    theirs = read_layout(run / options.extend) if options.extend else []
    if options.taxonomy:
        taxonomy = load_taxonomy(run / options.taxonomy)
    return Work(run, plan, taxonomy, options, filtered, judged, reviews, theirs)


def _check_replaceable(target: Path) -> None:
    """Raise `UserError` unless the folder can be replaced as a whole, and nothing but a build goes with it."""
    from data.benchmark.provenance import strangers
    from data.rows import check_writable

    real = target.resolve()
    if real in (Path.cwd(), Path(real.anchor)):
        raise UserError(
            f"{real} is replaced as a whole by a build, and you are in it: name another --out folder."
        )
    if real.exists() and not real.is_dir():
        raise UserError(f"{target} is a file: name an empty or a new --out folder.")
    check_writable(real.parent)
    if others := strangers(real):
        raise UserError(
            f"{target} is replaced as a whole by a build, and holds something that is no build's, such as "
            f"{others[0]}: move that away, or name an empty or a new --out folder."
        )


def _write(target: Path, work: Work) -> Sequence[Pair]:
    """Write the folder; returns our pairs, those that did not enter rejected."""
    from data.benchmark.assembly import calibration_of, date_of, describe, entries_of, labels_of, metas_of
    from data.benchmark.layout import write_layout
    from data.benchmark.parquet import write_parquet
    from data.benchmark.provenance import write_checksums, write_provenance

    date_of(work.options.date)  # said before the long work
    entries, pairs = entries_of(work)
    if not entries:
        raise UserError(f"No pair of {work.run} is left, so there is nothing to build: see its funnel.")
    splits = {"test": entries}
    if work.options.calibration:
        first = 1 + max(each.row["instruction_id"] for each in entries)
        splits["calibration"], gone = calibration_of(work, pairs, first)
        if gone:
            of = f"{gone} of {gone + len(splits['calibration'])}"
            print(f"note: the calibration split lacks {of} pairs, whose pictures are gone.", file=sys.stderr)
    labels = labels_of(work.taxonomy, [entry for rows in splits.values() for entry in rows])
    target = target.resolve()  # of a link, what it leads to
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write_layout(part, entries)
        files = {name: write_parquet(part, name, rows, labels) for name, rows in splits.items() if rows}
        describe(part, work, pairs, splits, files, labels)
        write_provenance(part / "provenance.jsonl", splits, metas_of(work, pairs), work.reviews)
        write_checksums(part)
        _replace(target, part)
    finally:  # of a build that was stopped nothing is left
        shutil.rmtree(part, ignore_errors=True)
    return pairs


def _replace(target: Path, part: Path) -> None:
    """Put the finished folder in its place; what stood there goes last."""
    old = target.with_name(f".{target.name}.old")
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        part.rename(target)
    except OSError as error:  # it is where a disk is mounted, say
        raise UserError(f"Cannot replace {target} ({error.strerror}): name another --out folder.") from error
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    run_cli(main)
