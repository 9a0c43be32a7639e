"""`python -m audit.run SOURCE ...`: how much of its pictures' risk a benchmark's text gives away."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from audit import eyes
from audit.console import announce, conclude, printable, say
from data.errors import UserError, run_cli

if TYPE_CHECKING:
    from audit.descriptions import Content, Eyes
    from audit.likeness import Likeness
    from audit.names import Given
    from audit.report import Settings
    from audit.spread import PairScorer
    from audit.summary import Audited, Summary
    from data.embedders import Load
    from data.sources.reader import Source

ABOUT = """Audits image-text benchmarks for visual safety information leakage: pairs whose text
alone gives away what is risky in the picture. SOURCE is a JSON, JSONL, CSV, TSV, XLSX or Parquet file, a
folder, or a Hugging Face dataset (hf:owner/name); NAME=SOURCE or NAME:VARIANT=SOURCE reads it in a benchmark's
layout, any other LABEL=SOURCE (or LABEL=NAME=SOURCE) is what it is called. Several sources stand side by side in
one report. Exit code 3: nothing of a source was scored."""
EXIT_NOTHING_SCORED = 3
ORIGINS = {
    "author": "described by their authors",
    "ocr": "read by OCR",
    "caption": "captioned",
    "unknown": "of unknown content",
}
COLUMN_FLAGS = {
    "query_column": "the query",
    "description_column": "the description",
    "image_column": "the image",
    "id_column": "the id",
    "category_column": "the category",
    "safe_column": "what is marked as harmless (true), and so in no share",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m audit.run", description=ABOUT)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a file, a folder, or hf:owner/name")
    parser.add_argument(
        "--benchmark", metavar="NAME", help="read all in this benchmark's layout (default: guessed)"
    )
    for flag, field in COLUMN_FLAGS.items():
        none = "" if flag == "query_column" else "; none: no column"
        parser.add_argument(
            f"--{flag.replace('_', '-')}", metavar="C", help=f"column of {field} (default: guessed{none})"
        )
    parser.add_argument("--embedder", default="minilm", help="text embedder (default: minilm)")
    parser.add_argument(
        "--calibration", metavar="FILE", help="from audit.calibrate (default: the embedder's own)"
    )
    parser.add_argument(
        "--exact", action="store_true",
        help="compute in float32 where bfloat16 would be faster: the same scores on every machine",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: runs/audit-SOURCE)"
    )
    parser.add_argument(
        "--false-discovery-rate", type=float, default=0.05, metavar="Q",
        help="share of the flagged pairs that may be flagged wrongly (default: 0.05)",
    )  # fmt: skip
    eyes.add_flags(parser)
    parser.add_argument(
        "--image-similarity", metavar="MODEL",
        help="also compare query and picture: a CLIP or SigLIP, folder or Hub id",
    )  # fmt: skip
    parser.add_argument("--engine", default="local", help="local, or ray: score by Ray's workers")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster (default: this machine)")
    parser.add_argument("--actors", type=int, metavar="N", help="of Ray's workers (default: 1)")
    parser.add_argument("--gpus", type=float, metavar="F", help="of each worker, fractions allowed")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if not 0 < arguments.false_discovery_rate < 1:
        raise UserError(
            f"--false-discovery-rate lies between 0 and 1, not at {arguments.false_discovery_rate:g}."
        )
    eyes.check(arguments)
    from audit.calibrations import load_calibration  # numpy and more: not needed for --help
    from audit.names import parse_given
    from audit.report import Settings
    from data.embedders import find_embedder
    from data.rows import check_writable

    load_embedder = find_embedder(arguments.embedder)
    calibration = load_calibration(arguments.calibration or arguments.embedder)
    settings = Settings(
        arguments.embedder,
        calibration,
        arguments.false_discovery_rate,
        eyes.names(arguments),
        arguments.exact,
    )
    with tempfile.TemporaryDirectory(prefix="audit-images-") as unpack_to:
        given = [parse_given(source) for source in arguments.sources]
        sources = [_read(each, arguments, Path(unpack_to)) for each in given]
        names = announce(sources, [each.label for each in given])
        out = arguments.out or _default_out(names)
        check_writable(out)
        with _auditor(arguments, load_embedder, settings) as auditor:  # before pictures: captions cost money
            shown = _look(names, sources, arguments)
            summaries = audit_into(out, sources, names, shown, auditor, settings)
    conclude(out, summaries)
    return warn_of_nothing(summaries)


def audit_into(
    out: Path,
    sources: Sequence[Source],
    names: Sequence[str],
    shown: Sequence[Sequence[Content]],
    auditor: PairScorer,
    settings: Settings,
) -> list[Summary]:
    """Audit the sources and write rows, report and figures into `out`; returns a summary of each."""
    from audit.summary import nulls_of, summarise

    rate, calibration = settings.false_discovery_rate, settings.calibration
    audits = [_audit(*each, auditor) for each in zip(names, sources, shown, strict=True)]
    summaries = [
        summarise(audited, calibration.sensitivity, rate).replace(nulls=tuple(nulls_of(audited, calibration)))
        for audited in audits
    ]
    _write(out, audits, summaries, settings)
    return summaries


def warn_of_nothing(summaries: Sequence[Summary]) -> int:
    """Say of every source that nothing of it was scored, and why mostly; returns the exit code."""
    empty = [summary for summary in summaries if not summary.scored]
    for summary in empty:
        reason, number = next(iter(summary.unscored.items()))
        print(
            f"Nothing of {printable(summary.source)} was scored, so that nothing is known of it; for {number:,} of "
            f"{summary.rows:,} rows the reason is: {printable(reason)}.",
            file=sys.stderr,
        )
    return EXIT_NOTHING_SCORED if empty else 0


@contextmanager
def _auditor(arguments: argparse.Namespace, load: Load, settings: Settings) -> Iterator[PairScorer]:
    """The auditor of this process, or one whose pairs an engine's workers score."""
    from functools import partial

    from audit.auditor import Auditor
    from audit.embedding_cache import watched_and_kept
    from audit.spread import SpreadAuditor, load_auditor
    from data.engines import Pool, opened_engine

    rate = settings.false_discovery_rate
    if arguments.engine == "local" and not arguments.ray_address:
        if arguments.actors is not None or arguments.gpus is not None:
            raise UserError("--actors and --gpus go with --engine ray.")
        fast = not arguments.exact
        with watched_and_kept(load(fast=fast), eyes.cache_folder(arguments), fast=fast) as embedder:
            yield Auditor(embedder, settings.calibration, false_discovery_rate=rate)
        return
    actors, gpus = arguments.actors if arguments.actors is not None else 1, arguments.gpus or 0.0
    if actors < 1 or gpus < 0:
        raise UserError("--actors takes a number from 1 upwards, --gpus a share from 0 upwards.")
    calibration = arguments.calibration or arguments.embedder
    make = partial(load_auditor, arguments.embedder, calibration, rate, fast=not arguments.exact)
    pools = {"audit": Pool(actors=actors, gpus=gpus)}
    with opened_engine(arguments.engine, pools, arguments.ray_address) as engine:
        yield SpreadAuditor(engine, make, settings.calibration, rate)


def _read(given: Given, arguments: argparse.Namespace, unpack_to: Path) -> Source:
    """The source by its layout where one is named or recognised, else by its columns."""
    from audit.benchmarks import guess_benchmark, read_benchmark
    from data.sources.reader import read_source

    name, path = given.benchmark or arguments.benchmark or "", given.path
    columns = {flag: getattr(arguments, flag) for flag in COLUMN_FLAGS}
    chosen = any(columns.values())
    if name and chosen:
        raise UserError(f"{name} knows its columns: do not name the benchmark to choose columns yourself.")
    root = arguments.image_root
    benchmark = name or (None if chosen else guess_benchmark(path))
    if benchmark:
        return read_benchmark(benchmark, path, data_root=root, unpack_to=unpack_to)
    return read_source(path, **columns, data_root=root, unpack_to=unpack_to)


def _default_out(names: Sequence[str]) -> Path:
    safe = [
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name) for name in names
    ]
    return Path("runs") / f"audit-{'-'.join(safe)[:80]}"


def _look(
    names: Sequence[str], sources: Sequence[Source], arguments: argparse.Namespace
) -> list[list[Content]]:
    """What every row's picture shows, by source; and how alike it and the query are, where that is asked."""
    from audit.descriptions import describe, problems_of

    shown = []
    with eyes.opened(arguments) as open_eyes:
        likeness = _likeness(arguments.image_similarity, open_eyes) if arguments.image_similarity else None
        for name, source in zip(names, sources, strict=True):
            contents = describe(source.rows, open_eyes, problems_of(source))
            if likeness:
                contents = eyes.compared(source.rows, contents, likeness)
            shown.append(contents)
            origins = Counter(content.origin or "unknown" for content in contents)
            said = (f"{number:,} {ORIGINS[origin]}" for origin, number in origins.most_common())
            say(f"{name}: pictures {', '.join(said)}")
    return shown


def _likeness(model: str, open_eyes: Eyes) -> Likeness:
    from audit.likeness import Likeness

    return Likeness(model, open_eyes.cache)


def _audit(name: str, source: Source, contents: Sequence[Content], auditor: PairScorer) -> Audited:
    """Every row's audit; the descriptions of one source are each other's pool. Harmless twins are not flagged."""
    from audit.summary import Audited
    from data.pages.page import plural

    started = time.monotonic()
    queries = [row.query for row in source.rows]
    texts = [content.text for content in contents]
    audits = auditor.score(
        queries,
        texts,
        [content.origin or "author" for content in contents],
        counted=[row.is_safe is not True for row in source.rows],
    )
    scored = sum(audit.leakage is not None for audit in audits)
    pairs, seconds = plural(len(queries), "pair"), time.monotonic() - started
    print(f"{printable(name)}: {scored:,} of {pairs} scored in {seconds:.0f} s", file=sys.stderr)
    audits = [
        audit.replace(unscored_because=content.missing) if content.missing and query.strip() else audit
        for audit, content, query in zip(audits, contents, queries, strict=True)
    ]
    return Audited(name, source, audits, contents)


def _write(out: Path, audits: Sequence[Audited], summaries: Sequence[Summary], settings: Settings) -> None:
    """Made in a folder aside; then they take their names, the summary last: where it is, the files belong together."""
    from audit.outputs import write_csv, write_jsonl, write_summary
    from audit.report import write_report

    aside = out / f".part-{os.getpid()}"
    try:
        write_jsonl(aside / "audit.jsonl", audits)
        write_csv(aside / "audit.csv", audits)
        write_report(aside / "report.html", audits, summaries, settings)
        write_summary(aside / "summary.json", summaries, settings)
        (out / "summary.json").unlink(missing_ok=True)
        for name in ("audit.jsonl", "audit.csv", "report.html", "summary.json"):
            (aside / name).replace(out / name)
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    run_cli(
        main,
        when_stopped="What was read and embedded is kept, unless --no-cache or --engine ray was asked for; the same "
        "command goes on from there.",
    )
