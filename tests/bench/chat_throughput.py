"""How fast the LLM stages ask, and what holds them up: `python -m tests.bench.chat_throughput`.

2,000 requests, 64 in flight, a server that answers after 50 ms:

  bare       AsyncOpenAI with the aiohttp transport behind a semaphore; nothing kept
  stage      our stage: validated replies, response cache, durable rows
  raw        plain aiohttp, for scale
  straggler  the stage, 1 call in 64 takes 2 s
  limited    the stage, the server says 429 beyond 32 in flight
  broken     the stage, 1 % of the rows get HTTP 400; healed, then --retry-failed
  peers      curator, distilabel, DataDesigner, each where `--peers NAME=PYTHON` names an interpreter with it

Prints a table, and as its last line one JSON object. Seconds depend on the machine; ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from data.llm.cache import ResponseCache
from data.llm.chat import Asker
from data.llm.openai_chat import OpenAIChat
from data.records import Pair
from data.stage import Stage, StageMeta, run_stage

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).with_name("chat_peers.py")
ROWS, IN_FLIGHT, DELAY_SECONDS = 2000, 64, 0.05
SYSTEM = "You name colours. Reply with JSON."


class Colour(BaseModel):
    """What is asked for."""

    name: str


class Took(NamedTuple):
    """One measurement."""

    seconds: float
    cpu_ms_per_row: float

    @property
    def rows_per_second(self) -> float:
        return ROWS / self.seconds


@contextmanager
def server(*flags: str) -> Iterator[str]:
    """A loopback server of its own process; its URL."""
    command = [sys.executable, "-m", "tests.bench.loopback", str(DELAY_SECONDS), *flags]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def timed(work: Callable[[], object]) -> Took:
    """Wall time and this process's CPU time."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - started
    return Took(seconds, (time.process_time() - cpu) * 1000 / ROWS)


async def ask_bare(url: str) -> None:
    """(a): the client of the `openai` package and a semaphore."""
    import openai

    client = openai.AsyncOpenAI(
        api_key="none", base_url=url, http_client=openai.DefaultAioHttpClient(timeout=30), max_retries=5
    )
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(row: int) -> str | None:
        async with free:
            reply = await client.chat.completions.create(
                model="m",
                messages=[
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"Name the colour of row {row}."},
                ],
                temperature=0.7,
            )
        return reply.choices[0].message.content

    await asyncio.gather(*(one(row) for row in range(ROWS)))
    await client.close()


async def ask_raw(url: str) -> None:
    """The floor: aiohttp and nothing else."""
    import aiohttp

    free = asyncio.Semaphore(IN_FLIGHT)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(row: int) -> None:
            user = {"role": "user", "content": f"Name the colour of row {row}."}
            async with free, session.post(f"{url}/chat/completions", json={"messages": [user]}) as reply:
                await reply.json()

        await asyncio.gather(*(one(row) for row in range(ROWS)))


async def run_our_stage(url: str, folder: Path, retry_failed: bool = False) -> StageMeta:
    """(b): everything a run does with a call."""
    chat = OpenAIChat("m", url, "NO_SUCH_KEY", timeout_seconds=30)
    cache = ResponseCache(folder / "responses.sqlite")
    asker = Asker(chat, cache, retry_failed=retry_failed)

    async def name_colour(pair: Pair) -> Pair:
        reply = await asker.ask(SYSTEM, f"Name the colour of {pair.element}.", Colour)
        return pair.replace(instruction=reply.name)

    rows = [
        Pair(id=f"{row}", element=f"row {row}", category="c", sub_category="s", image_description="d" * 200)
        for row in range(ROWS)
    ]
    stage: Stage[Pair, Pair] = Stage(name="bench", settings={}, each=name_colour, workers=IN_FLIGHT)
    try:
        return await run_stage(stage, rows, folder, retry_failed)
    finally:
        await chat.close()
        cache.close()


def our_stage(url: str) -> Callable[[], object]:
    """Our stage in a folder of its own, which goes when it is done."""

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            meta = asyncio.run(run_our_stage(url, Path(folder)))
            assert meta.kept == ROWS, meta

    return work


def repeated(rounds: int) -> dict[str, Took]:
    """Medians of bare, stage and raw, taken in turns so that noise falls on all of them."""
    took: dict[str, list[Took]] = {"bare": [], "stage": [], "raw": []}
    with server() as url:
        for _ in range(rounds):
            took["bare"].append(timed(lambda: asyncio.run(ask_bare(url))))
            took["stage"].append(timed(our_stage(url)))
            took["raw"].append(timed(lambda: asyncio.run(ask_raw(url))))
    return {name: Took(*map(statistics.median, zip(*each, strict=True))) for name, each in took.items()}


def broken_rows() -> dict[str, int]:
    """1 % permanent 400s, then a server that has healed."""
    with server("--broken", "100") as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        failed = asyncio.run(run_our_stage(url, folder)).failed
        asked = _get(url, "/counts")["asked"]
        most = max(count for row, count in asked.items() if int(row) % 100 == 0)
        _get(url, "/heal", b"")
        healed = asyncio.run(run_our_stage(url, folder, retry_failed=True))
    return {"failed": sum(failed.values()), "asked_at_most": most, "kept_after_retry": healed.kept}


def _get(url: str, path: str, data: bytes | None = None) -> dict[str, dict[str, int]]:
    with urllib.request.urlopen(url.removesuffix("/v1") + path, data) as response:
        counts: dict[str, dict[str, int]] = json.load(response)
        return counts


def peer(name: str, python: str) -> Took | None:
    """A peer with an interpreter of its own; None, with a word, where it does not run."""
    with server() as url:
        done = subprocess.run(
            [python, str(PEERS), name, url, str(ROWS), str(IN_FLIGHT)],
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    if done.returncode:
        print(f"{name} does not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return Took(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="append", default=[], metavar="NAME=PYTHON")
    wanted = parser.parse_args()
    took = repeated(wanted.rounds)
    for name, flags in {"straggler": ("--straggler", "64"), "limited": ("--most", "32")}.items():
        with server(*flags) as url:
            took[name] = timed(our_stage(url))
    for name, _, python in (each.partition("=") for each in wanted.peers):
        measured = peer(name, python)
        if measured:
            took[name] = measured
    print(f"{'':<14}{'rows/s':>8}{'seconds':>9}{'CPU ms/row':>12}")
    for name, each in took.items():
        print(f"{name:<14}{each.rows_per_second:>8.0f}{each.seconds:>9.1f}{each.cpu_ms_per_row:>12.2f}")
    broken = broken_rows()
    print(f"1 % broken rows: {broken}")
    figures = {
        name: each._asdict() | {"rows_per_second": each.rows_per_second} for name, each in took.items()
    }
    ratio = took["stage"].rows_per_second / took["bare"].rows_per_second
    print(json.dumps({"stage_over_bare": ratio, "broken": broken, **figures}))


if __name__ == "__main__":
    main()
