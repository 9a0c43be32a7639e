"""`python -m data.build RUN`: the finished benchmark, for `datasets` and in VLSBench's own layout.

benchmark/README.md                          dataset card
benchmark/data/test-00000-of-00001.parquet   rows with their pictures inside
benchmark/data.json, benchmark/imgs/0.png    VLSBench's layout
benchmark/charts/*.svg, croissant.json, provenance.jsonl, checksums.sha256
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError, missing_package, run_cli

if TYPE_CHECKING:
    from data.benchmark.assembly import Options, Work
    from data.benchmark.layout import Entry
    from data.records import Pair, SubCategory

FOLDER = "benchmark"
ROWS_PER_GROUP = 64  # pictures held in memory at a time while a Parquet file is written
SHARD_BYTES = 400_000_000  # of pictures per Parquet file
ABOUT = """Builds the benchmark of a run from the pairs that the filter kept and people approved of."""


def main() -> int:
    arguments = _parse_arguments()
    from data.benchmark.assembly import Options
    from data.benchmark.publish import Terms, check_name, describe_push, push
    from data.run_folder import locked
    from data.taxonomy import load_taxonomy

    if not arguments.run.is_dir():
        raise UserError(f"There is no folder {arguments.run}: name a run that construct.run has made.")
    if arguments.push:
        check_name(arguments.push)
    elif arguments.dry_run or arguments.public or arguments.ungated:
        raise UserError("--dry-run, --public and --ungated say how to push: add --push OWNER/NAME.")
    options = Options(**{name: getattr(arguments, name) for name in Options.__annotations__})
    with locked(arguments.run, "RUN"):
        target = build_run(arguments.run, load_taxonomy(), options)
        print(f"benchmark  {target}")
        if arguments.push:
            terms = Terms(not arguments.public, not arguments.ungated)
            say = describe_push if arguments.dry_run else push
            print(say(target, arguments.push, terms))
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.build", description=ABOUT)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run, filtered; its reviews are applied")
    add("--calibration", action="store_true", help="add a split of the pairs rejected for leaking")
    add("--reviewed-only", action="store_true", help="only pairs that people have approved")
    add("--extend", default="", metavar="FOLDER", help="merge with this VLSBench-schema benchmark")
    add("--out", default="", metavar="DIR", help="folder to write (default: RUN/benchmark)")
    add("--date", default="", metavar="YYYY-MM-DD", help="date in the card (default: today)")
    add("--name", default="", help="name in the card (default: the run's)")
    add("--license", default="", help="licence, as the Hub names it (default: the run's)")
    add("--taxonomy", default="", metavar="FILE.toml", help="order of the classes (default: VLSBench's)")
    add("--push", metavar="OWNER/NAME", help="send it to the Hugging Face Hub: private and gated")
    add("--dry-run", action="store_true", help="with --push: build, say what would go, send nothing")
    add("--public", action="store_true", help="with --push: everybody can find it")
    add("--ungated", action="store_true", help="with --push: nobody has to ask for access")
    return parser.parse_args()


def build_run(run: Path, taxonomy: Sequence[SubCategory], options: Options | None = None) -> Path:
    """Bring a run's benchmark up to date with all that it is made of; returns its folder.

    Without options, those of the last build count; their taxonomy wins over the one given here. The folder
    appears whole or not at all. Raises `UserError` when something that no build wrote would be lost with it.
    """
    from data.benchmark.assembly import BUILD, build_meta
    from data.rows import write_json
    from data.stage_meta import read_meta

    known = read_meta(run, BUILD)
    work = _work(run, taxonomy, options or _last_options(run))
    target = _target(work)
    settings = {"options": asdict(work.options), "plan": work.plan.model_dump(mode="json")}
    made_of = _made_of(work, settings)
    if known and known.fingerprint == made_of and (target / "checksums.sha256").exists():
        return target
    _check_replaceable(target)
    meta = build_meta(_write(target, work)).model_copy(update={"fingerprint": made_of, "settings": settings})
    write_json(run / f"{BUILD}.meta.json", meta.model_dump())
    return target


def _made_of(work: Work, settings: Mapping[str, object]) -> str:
    """A digest of what the build depends on; pictures count by size and time."""
    from data.benchmark.assembly import stage_metas
    from data.stage_meta import digest

    records = [*work.taxonomy, *work.filtered, *work.judged, *work.reviews]
    parts = [json.dumps(settings), *(record.model_dump_json() for record in records)]
    parts += [meta.model_dump_json(exclude={"seconds", "fresh"}) for meta in stage_metas(work)]  # the card's
    parts += [json.dumps([entry.row, *_seen(entry.picture)]) for entry in work.theirs]
    parts += [json.dumps(_seen(work.run / pair.image_path)) for pair in work.filtered]
    return digest("".join(parts))


def _seen(picture: Path) -> list[int]:
    """A picture file's size and time; nothing where there is none."""
    return [picture.stat().st_size, picture.stat().st_mtime_ns] if picture.is_file() else []


def _work(run: Path, taxonomy: Sequence[SubCategory], options: Options) -> Work:
    """What there is to build: the filter's rows, what people made of those it kept, and what is extended."""
    from data.benchmark.assembly import BUILD, Work
    from data.benchmark.layout import read_layout
    from data.records import Pair
    from data.reviews import apply_reviews, read_reviews
    from data.run_folder import read_plan
    from data.stage import read_stage
    from data.stage_meta import read_meta
    from data.taxonomy import load_taxonomy

    plan = read_plan(run)
    last = read_meta(run, plan.stages[-1])
    if last is None or not last.finished:
        raise UserError(f"Stage {BUILD!r} needs {plan.stages[-1]!r} first: run --stage all.")
    filtered, reviews = list(read_stage(run, plan.stages[-1], Pair)), read_reviews(run)
    kept = [pair for pair in filtered if pair.rejected is None]
    limit = float(last.settings.get("filter", {}).get("max_leakage", 0.3))
    judged = apply_reviews(kept, reviews, limit, reviewed_only=options.reviewed_only)
    theirs = read_layout(Path(options.extend)) if options.extend else []
    if options.taxonomy:
        taxonomy = load_taxonomy(Path(options.taxonomy))
    return Work(run, plan, taxonomy, options, filtered, judged, reviews, theirs)


def _last_options(run: Path) -> Options:
    from data.benchmark.assembly import BUILD, Options
    from data.stage_meta import read_meta

    known = read_meta(run, BUILD)
    return Options(**known.settings["options"]) if known and "options" in known.settings else Options()


def _target(work: Work) -> Path:
    """The folder to write."""
    if work.options.out:
        return Path(work.options.out)
    return work.run / (f"{FOLDER}-extended" if work.options.extend else FOLDER)


def _check_replaceable(target: Path) -> None:
    """Raise `UserError` unless the folder can be replaced as a whole, and nothing but a build goes with it."""
    from data.benchmark.provenance import unlisted
    from data.rows import check_writable

    real = target.resolve()
    if real in (Path.cwd(), Path(real.anchor)):
        raise UserError(
            f"{real} is replaced as a whole by a build, and you are in it: name another --out folder."
        )
    if real.exists() and not real.is_dir():
        raise UserError(f"{target} is a file: name an empty or a new --out folder.")
    check_writable(real.parent)
    if strangers := unlisted(real):
        raise UserError(
            f"{target} is replaced as a whole by a build, and holds something that is no build's, such as "
            f"{strangers[0]}: move that away, or name an empty or a new --out folder."
        )


def _write(target: Path, work: Work) -> Sequence[Pair]:
    """Write the folder; returns our pairs, those that did not enter rejected."""
    from data.benchmark.assembly import calibration_of, describe, entries_of, labels_of, metas_of
    from data.benchmark.layout import write_layout
    from data.benchmark.provenance import write_checksums, write_provenance

    entries, pairs = entries_of(work)
    if not entries:
        raise UserError(f"No pair of {work.run} is left, so there is nothing to build: see its funnel.")
    splits = {"test": entries}
    if work.options.calibration:
        splits["calibration"] = calibration_of(
            work, pairs, 1 + max(each.row["instruction_id"] for each in entries)
        )
    labels = labels_of(work.taxonomy, [entry for rows in splits.values() for entry in rows])
    target = target.resolve()  # of a link, what it leads to
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_layout(part, entries)
    files = {name: write_parquet(part, name, rows, labels) for name, rows in splits.items() if rows}
    describe(part, work, pairs, splits, files, labels)
    write_provenance(part / "provenance.jsonl", splits, metas_of(work, pairs), work.reviews)
    write_checksums(part)
    _replace(target, part)
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


def write_parquet(
    folder: Path, split: str, entries: Sequence[Entry], labels: Mapping[str, Sequence[str]]
) -> list[Path]:
    """`data/SPLIT-00000-of-0000N.parquet` with typed features and the pictures' bytes inside."""
    try:
        import pyarrow.parquet as pq
        from datasets import ClassLabel, Features, Image, Value
    except ImportError as error:
        raise missing_package("datasets", "build") from error
    from data.benchmark.layout import VlsbenchRow

    columns: dict[str, object] = {"instruction_id": Value("int64"), "image": Image()}
    columns |= {name: Value("string") for name in VlsbenchRow.__annotations__ if name != "instruction_id"}
    columns |= {name: ClassLabel(names=list(names)) for name, names in labels.items()}
    schema = Features(columns).arrow_schema
    shards, paths = _shards(entries), []
    (folder / "data").mkdir(exist_ok=True)
    for number, shard in enumerate(shards):
        paths.append(folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
        with pq.ParquetWriter(paths[-1], schema) as writer:
            for start in range(0, len(shard), ROWS_PER_GROUP):
                writer.write_table(_table(shard[start : start + ROWS_PER_GROUP], labels, schema))
    return paths


def _shards(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The rows in order, in parts of at most SHARD_BYTES of pictures."""
    shards: list[list[Entry]] = [[]]
    used = 0
    for entry in entries:
        size = entry.picture.stat().st_size
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(entry)
        used += size
    return shards


def _table(entries: Sequence[Entry], labels: Mapping[str, Sequence[str]], schema: Any) -> Any:
    """A group of rows as an Arrow table."""
    import pyarrow as pa

    numbers = {column: {name: at for at, name in enumerate(names)} for column, names in labels.items()}
    rows = [
        {**entry.row, "image": {"bytes": entry.picture.read_bytes(), "path": entry.row["image_path"]}}
        | {column: known[entry.row[column]] for column, known in numbers.items()}  # type: ignore[literal-required]
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, schema=schema)


if __name__ == "__main__":
    run_cli(main)
