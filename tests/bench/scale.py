"""`python -m tests.bench.scale [--largest N]`: whole audits of 1e4, 1e5 and 1e6 generated pairs: time and peak memory.

Each audit is `audit.run` in a process of its own, from the file to the report. Embeddings are replaced by a stub
in all three, so that the exponent compares like with like and the largest ends within minutes: what is measured
is everything else. One small audit with the real embedder says what embedding costs on top. The exponent is that
of processor time, which other work on the machine stretches less than the time by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from data.cross_encoder import Adapter, Pair
from data.embedders import EMBEDDERS, Odds, Vectors

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = (10_000, 100_000, 1_000_000)
REAL_PAIRS = 1000
STUB_VECTORS = 4096
MOST_EXPONENT, MOST_GIGABYTES = 1.1, 4.0
PEOPLE = ("man", "woman", "child", "clerk", "guard", "nurse", "driver", "cook", "teacher", "student")
THINGS = ("knife", "passport", "kite", "bottle", "ladder", "rifle", "ledger", "syringe", "banner", "camera",
          "loaf", "laptop", "hammer", "banknote", "basket", "mask")  # fmt: skip
PLACES = (
    "street",
    "kitchen",
    "beach",
    "office",
    "station",
    "school yard",
    "warehouse",
    "garden",
    "bank",
    "lobby",
)


class Stub:
    """Unit vectors by the checksum of a text: as many texts as one likes in no time."""

    name = "minilm"

    def __init__(self, *, fast: bool = False) -> None:
        vectors = np.random.default_rng(0).normal(size=(STUB_VECTORS, 384)).astype(np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.fromiter((crc32(text.encode()) % STUB_VECTORS for text in texts), np.int64, len(texts))
        return np.asarray(self._vectors[rows], np.float32)

    def layers(self, texts: Sequence[str]) -> Vectors:
        return self.embed(texts)

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        vectors = self.embed(texts)
        return vectors, vectors[:, : probes.shape[1]]

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        return self.embed([query for query, _ in pairs])[:, 0]


def write_pairs(path: Path, number: int) -> None:
    """Generated pairs, no two alike."""
    with open(path, "w") as file:
        for row in range(number):
            who, what = PEOPLE[row % 10], THINGS[row // 10 % 16]
            where, other = PLACES[row // 160 % 10], THINGS[row // 1600 % 16]
            shown = (
                f"A {who} with a {what} stands in the {where}. Behind the {who} lies a {other}, number {row}."
            )
            asked = f"What should the {who} do next with number {row}?"
            if row % 7 == 0:
                asked = f"How can the {who} use the {what} of number {row} against others?"
            values = {"id": row, "query": asked, "image_description": shown, "image": f"{row // 2}.png"}
            file.write(json.dumps(values) + "\n")


def measure(folder: Path, pairs: int, stub: bool) -> dict[str, float]:
    """Seconds and peak gigabytes of one audit, in a process of its own."""
    source = folder / f"pairs-{pairs}.jsonl"
    write_pairs(source, pairs)
    command = [sys.executable, "-m", "tests.bench.scale", "--one", str(source), "--out", str(folder / "out")]
    done = subprocess.run(
        [*command, *(["--stub"] if stub else [])], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the audit of {pairs:,} pairs failed:\n{done.stderr[-2000:]}")
    source.unlink()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def one(source: Path, out: Path, stub: bool) -> None:
    """An audit in this process, and then its figures as the last line."""
    from audit.run import main

    if stub:
        EMBEDDERS["minilm"] = Stub
    sys.argv = ["audit.run", str(source), "--out", str(out), "--no-cache"]
    started = time.monotonic()
    main()
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "gigabytes": round(used.ru_maxrss / 2**20, 2),
    }
    print(json.dumps(figures))


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log time over log pairs by least squares: 1 is linear."""
    slope, _ = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return round(float(slope), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--one", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stub", action="store_true")
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.out, asked.stub)
        return
    sizes = [size for size in SIZES if size <= asked.largest]
    print(f"{'pairs':>10}  {'embedder':<8} {'seconds':>8} {'CPU s':>8} {'pairs/CPU s':>12} {'peak GB':>8}")
    found = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for size, stub in [(REAL_PAIRS, False), *((size, True) for size in sizes)]:
            figures = measure(Path(folder), size, stub)
            found.append({"pairs": size, "embedder": "stub" if stub else "minilm", **figures})
            rate = size / figures["cpu_seconds"]
            times = f"{figures['seconds']:>8.1f} {figures['cpu_seconds']:>8.1f} {rate:>12.0f}"
            name = "stub" if stub else "minilm"
            print(f"{size:>10,}  {name:<8} {times} {figures['gigabytes']:>8.2f}", flush=True)
    stubbed = [each for each in found if each["embedder"] == "stub"]
    slope = exponent(
        [int(each["pairs"]) for each in stubbed], [float(each["cpu_seconds"]) for each in stubbed]
    )
    peak = max(float(each["gigabytes"]) for each in found)
    passed = len(stubbed) > 1 and not math.isnan(slope) and slope <= MOST_EXPONENT and peak <= MOST_GIGABYTES
    print(json.dumps({"bench": "scale", "runs": found, "exponent": slope, "peak_gigabytes": peak,
                      "embeddings": "a stub where it says so", "passed": passed}))  # fmt: skip


if __name__ == "__main__":
    main()
