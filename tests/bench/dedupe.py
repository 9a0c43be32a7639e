"""Near-duplicates at growing sizes: time, memory, and how many planted ones are found.

python tests/bench/dedupe.py [--sizes 1000 10000 100000] [--million]

Vectors are random around 200 topics (texts of one benchmark are alike without being the same), 384 wide;
one row in twenty is a planted repeat of another, with a cosine from 0.90 to 0.999. CPU seconds count, for
wall-clock seconds depend on what else the machine does. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
THRESHOLD = 0.88
WIDTH, TOPICS = 384, 200
PLANTED = 0.05
BEYOND = 10_000  # the exponent is fitted from here upwards
MOST_EXPONENT = 1.2


def measure(rows: int) -> dict[str, float]:
    """One size, in this process."""
    sys.path.insert(0, str(REPOSITORY))
    from data.neighbours import Likeness, find_repeats

    vectors, planted = make_vectors(rows)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, not from making the vectors
    wall, cpu = time.perf_counter(), time.process_time()
    repeats = find_repeats([Likeness(vectors, THRESHOLD)], list(range(rows)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resident("VmHWM")
    found = sum(row in repeats for row in planted)
    return {
        "rows": rows, "wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2),
        "input_mib": round(before), "extra_mib": round(peak - before),
        "recall": round(found / len(planted), 4), "wrong": len(repeats.keys() - set(planted)),
    }  # fmt: skip


def resident(line: str) -> float:
    """This process's memory in MiB, by a line of its status: VmRSS now, VmHWM at its highest."""
    found = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(line))
    return int(found.split()[1]) / 1024


def make_vectors(rows: int):  # type: ignore[no-untyped-def]
    """(rows, WIDTH) unit vectors, and which rows repeat an earlier one."""
    import numpy as np

    random = np.random.default_rng(20241129)
    topics = random.standard_normal((TOPICS, WIDTH)).astype(np.float32)
    vectors = random.standard_normal((rows, WIDTH), dtype=np.float32)
    for start in range(0, rows, 50_000):  # in pieces: a million rows are 1.5 GB
        part = vectors[start : start + 50_000]
        part += 0.6 * topics[random.integers(0, TOPICS, len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    copies = int(rows * PLANTED)
    sources = random.integers(0, rows - copies, copies)
    noise = random.standard_normal((copies, WIDTH), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    angle = np.tan(np.arccos(random.uniform(0.9, 0.999, copies))).astype(np.float32)
    vectors[rows - copies :] = vectors[sources] + angle[:, None] * noise
    vectors[rows - copies :] /= np.linalg.norm(vectors[rows - copies :], axis=1, keepdims=True)
    return vectors, range(rows - copies, rows)


def exponent(figures: list[dict[str, float]], column: str) -> float | None:
    """The slope of log time over log rows by least squares, from BEYOND upwards."""
    points = [
        (math.log(each["rows"]), math.log(max(each[column], 1e-3)))
        for each in figures
        if each["rows"] >= BEYOND
    ]
    if len(points) < 2:
        return None
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return round(sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="a million rows too: minutes, 5 GB")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    figures = []
    print(f"{'rows':>9} {'wall s':>8} {'CPU s':>8} {'extra MiB':>10} {'recall':>7} {'wrong':>6}")
    for rows in [*arguments.sizes, *([1_000_000] if arguments.million else [])]:
        one = subprocess.run(
            [sys.executable, __file__, "--one", str(rows)], capture_output=True, text=True, check=True
        )
        figures.append(json.loads(one.stdout))
        print(
            "{rows:>9} {wall_seconds:>8} {cpu_seconds:>8} {extra_mib:>10} {recall:>7} {wrong:>6}".format(
                **figures[-1]
            )
        )
    grown = exponent(figures, "cpu_seconds")
    if grown is not None:
        print(f"growth exponent beyond {BEYOND:,} rows: {grown} (at most {MOST_EXPONENT})")
    print(json.dumps({"bench": "dedupe", "threshold": THRESHOLD, "sizes": figures, "exponent": grown}))


if __name__ == "__main__":
    main()
