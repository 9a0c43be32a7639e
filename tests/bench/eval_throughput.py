"""How fast an evaluation asks: `python -m tests.bench.eval_throughput`.

2,241 answers and 2,241 verdicts, each with a picture, 64 in flight, a server that answers after 50 ms:

  bare   AsyncOpenAI with the aiohttp transport behind a semaphore: the same calls, nothing kept
  ours   both phases of eval: cache, durable rows, validated verdicts, and the ledger at the end
  raw    plain aiohttp, for scale

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.llm.cache import ResponseCache
from data.llm.pictures import Picture, data_url
from data.llm.prices import Ledger
from data.local_model import Settings
from data.prompts import load_prompt
from eval.api_model import ApiModel
from eval.arms import asks_of
from eval.cases import read_cases
from eval.judges import PROMPT, Rubric, api_judge, context_of
from eval.ledger import answer_arm, build_ledger, judge_answers
from eval.models import Server
from eval.records import Case
from tests.bench import loopback
from tests.vlsbench_folder import made_up, write

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS, IN_FLIGHT, DELAY_SECONDS = 2241, 64, 0.05
CALLS = 2 * ROWS
REPLY = json.dumps({"reason": "It warns of the danger.", "label": 2})
Work = Callable[[str, Sequence[Case]], None]


def serve() -> None:
    """The loopback server with replies that are verdicts."""
    reply = json.loads(json.dumps(loopback.REPLY))
    reply["choices"][0]["message"]["content"] = REPLY
    loopback.GOOD = loopback.answer(b"200 OK", reply)
    wanted = argparse.Namespace(delay=DELAY_SECONDS, straggler=0, most=10**9, broken=0)
    asyncio.run(loopback.serve(wanted))


@contextmanager
def server() -> Iterator[str]:
    """That server as a process of its own; its URL."""
    command = [sys.executable, "-m", "tests.bench.eval_throughput", "--serve"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def bodies(cases: Sequence[Case]) -> Iterator[list[dict[str, Any]]]:
    """The messages of every answer, then of every verdict; pictures are encoded when they are due."""
    prompt = load_prompt(PROMPT)
    for case in cases:
        yield [{"role": "user", "content": [_shown(case), {"type": "text", "text": case.question}]}]
    for case in cases:
        context = context_of(case.image_description, case.safety_reason, True, Rubric())
        system, user = prompt.fill(context=context, question=case.question, answer=REPLY)
        content = [_shown(case), {"type": "text", "text": user}]
        yield [{"role": "system", "content": system}, {"role": "user", "content": content}]


def _shown(case: Case) -> dict[str, Any]:
    assert case.image is not None
    return {"type": "image_url", "image_url": {"url": data_url(Picture(case.image, case.image_sha256))}}


async def ask_bare(url: str, cases: Sequence[Case]) -> None:
    """The client of the `openai` package and a semaphore."""
    import openai

    client: Any = openai.AsyncOpenAI(
        api_key="none", base_url=url, http_client=openai.DefaultAioHttpClient(timeout=30)
    )

    async def ask(messages: list[dict[str, Any]]) -> None:
        reply = await client.chat.completions.create(model="m", messages=messages, max_tokens=128)
        assert reply.choices[0].message.content

    await _spread(cases, ask)
    await client.close()


async def ask_raw(url: str, cases: Sequence[Case]) -> None:
    """The floor: aiohttp and nothing else."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(messages: list[dict[str, Any]]) -> None:
            async with session.post(f"{url}/chat/completions", json={"messages": messages}) as reply:
                await reply.json()

        await _spread(cases, ask)


async def _spread(cases: Sequence[Case], ask: Callable[[list[dict[str, Any]]], Any]) -> None:
    due = bodies(cases)

    async def work() -> None:
        for messages in due:
            await ask(messages)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def evaluate(url: str, cases: Sequence[Case], out: Path) -> None:
    """Answers, verdicts and the ledger, as `eval.run` makes them."""
    cache = ResponseCache(out / "responses.sqlite")
    desk = Server(cache, Ledger(None, cache.spent()), url, "NO_SUCH_KEY", IN_FLIGHT)
    model = ApiModel(desk.asker("m", 0.0, 128), Settings(), IN_FLIGHT)
    judge = api_judge(desk.asker("j", 0.0, 1024), Rubric(), IN_FLIGHT)
    asks = {"image": asks_of("image", cases, out, "bench")}
    await answer_arm(model, "image", asks["image"], out, retry=False)
    await judge_answers([judge], None, asks, cases, out, retry=False)
    rows = build_ledger(model, asks, cases, [judge], None, {}, out)
    assert sum(row.label == 2 for row in rows) == ROWS
    await desk.close()
    cache.close()


def ours(url: str, cases: Sequence[Case]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(evaluate(url, cases, Path(folder)))


WORKS: dict[str, Work] = {
    "bare": lambda url, cases: asyncio.run(ask_bare(url, cases)),
    "ours": ours,
    "raw": lambda url, cases: asyncio.run(ask_raw(url, cases)),
}


def timed(work: Work, url: str, cases: Sequence[Case]) -> tuple[float, float]:
    """Calls per second, and this process's CPU milliseconds per call."""
    started, cpu = time.perf_counter(), time.process_time()
    work(url, cases)
    seconds = time.perf_counter() - started
    return CALLS / seconds, (time.process_time() - cpu) * 1000 / CALLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help="be the server (the bench starts it)")
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in WORKS}
    with tempfile.TemporaryDirectory() as folder, server() as url:
        cases = read_cases(str(write(Path(folder) / "bench", made_up(ROWS))))
        for _ in range(arguments.rounds):
            for name, work in WORKS.items():  # in turns, so that noise falls on all of them
                took[name].append(timed(work, url, cases))
    figures = {
        name: [statistics.median(column) for column in zip(*each, strict=True)] for name, each in took.items()
    }
    print(f"{'':6}{'calls/s':>10}{'CPU ms/call':>14}")
    for name, (rate, cpu) in figures.items():
        print(f"{name:6}{rate:10.0f}{cpu:14.2f}")
    ratio = statistics.median(
        mine[0] / theirs[0] for mine, theirs in zip(took["ours"], took["bare"], strict=True)
    )
    rates = {f"{name}_calls_per_second": round(rate, 1) for name, (rate, _) in figures.items()}
    print(json.dumps({"ours_over_bare": round(ratio, 3), "calls": CALLS, **rates}))
    return None


if __name__ == "__main__":
    main()
