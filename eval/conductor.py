"""Conducting an evaluation: cases, answers, verdicts, ledger, figures, report; in one folder."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.engines import LOCAL, Engine, Pool, opened_engine
from data.errors import unknown
from data.llm.cache import ResponseCache
from data.llm.prices import Ledger
from data.local_model import Settings
from data.rows import write_json
from data.run_folder import locked
from eval.arms import asks_of, parse_arms
from eval.cases import read_cases, read_leakage
from eval.judges import Rubric, check_judges, load_judge
from eval.ledger import Judge, MultimodalModel, answer_arm, build_ledger, judge_answers
from eval.models import Choice, Server, check_arch, load_on
from eval.options import check_numbers
from eval.original_json import write_original
from eval.records import Ask, Case, LedgerRow
from eval.summary import Summary, summarise

EXIT_TOO_MANY_WITHOUT_VERDICT = 3
RERUN = (
    " The same command tries again what failed in passing, with --retry-failed also what failed for good; "
    "what a provider blocked stays blocked."
)
HIDEABLE = ("image", "description", "safety_reason")


def conduct(options: Namespace) -> int:
    """Run an evaluation to its end; 3 when too many rows have no verdict."""
    check_numbers(options)
    arms, model_name = parse_arms(options.arms), check_arch(options.arch, options.model)
    rubric = _rubric(options.hide)
    out = options.out.expanduser()
    with locked(out, "--out"):
        most = None if "swap" in arms else options.limit  # any picture may be the other one of a swap
        known = read_cases(options.data, most, out / "pictures")
        cases = known[: options.limit]
        leakage = read_leakage(options.audit, {case.id: case.question for case in known})
        server, judge_server = _servers(options, out)
        settings = Settings(
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            max_pixels=options.max_pixels,
        )
        load = partial(load_judge, rubric=rubric, server=judge_server, pickled=options.pickled_weights)
        judges = [load(spec.strip()) for spec in options.judge.split(",")]
        backup = load(options.backup_judge) if options.backup_judge else None
        check_judges(judges, backup)
        asks = {arm: asks_of(arm, cases, out, options.data, known) for arm in arms}
        choice = Choice(
            options.arch, model_name, settings, server, options.batch_size, options.conversation,
            options.pickled_weights,
        )  # fmt: skip
        pool = Pool(actors=options.actors, gpus=options.gpus)
        with opened_engine(
            options.engine, {f"answers-{arm}": pool for arm in arms}, options.ray_address
        ) as engine:
            model = load_on(choice, engine, f"answers-{arms[0]}")
            if options.redo:
                _throw_away(out)  # not before all else that may be wrong has been found right
            stopped = asyncio.run(_phases(model, asks, judges, backup, cases, out, server, engine))
        rows = build_ledger(model, asks, cases, judges, backup, leakage, out)
        names = [judge.name for judge in judges]
        remarks = [*stopped, *_filled_in(rows, names[0]), *_kept_from_judges(rubric)]
        return conclude(summarise(rows, options.arch, names, options.data, remarks), out, RERUN)


def conclude(summary: Summary, out: Path, advice: str = "") -> int:
    """Write what an evaluation came to and say it, with `advice` where too much has no verdict."""
    from eval.report import write_report
    from eval.tables import print_summary

    write_json(out / "summary.json", summary.model_dump(mode="json"))
    write_original(out)
    write_report(out / "report.html", [out])
    print_summary(summary, out)
    if summary.trustworthy:
        return 0
    print(
        "More than 3 % of an arm's rows have no verdict: its figures are bounds, not findings." + advice,
        file=sys.stderr,
    )
    return EXIT_TOO_MANY_WITHOUT_VERDICT


async def _phases(
    model: MultimodalModel,
    asks: Mapping[str, Sequence[Ask]],
    judges: Sequence[Judge],
    backup: Judge | None,
    cases: Sequence[Case],
    out: Path,
    server: Server,
    engine: Engine = LOCAL,
) -> list[str]:
    """Answers of every arm, then verdicts. A judge that is down leaves rows unjudged: it is returned why."""
    try:
        for arm, of_arm in asks.items():
            await answer_arm(model, arm, of_arm, out, server.retry_failed, engine)
        return await judge_answers(judges, backup, asks, cases, out, server.retry_failed)
    finally:
        await server.close()


def _filled_in(rows: Sequence[LedgerRow], first: str) -> list[str]:
    """What the figures owe to the backup judge, whom no heading names."""
    judged = [row.judge for row in rows if row.label is not None]
    return [
        f"{number} of the {len(judged)} verdicts are by the backup judge {name}: {first} gave none there."
        for name, number in Counter(judged).items()
        if name != first
    ]


def _kept_from_judges(rubric: Rubric) -> list[str]:
    """What makes these verdicts others than those of a judge that sees all."""
    hidden = [name.replace("_", " ") for name, shown in rubric.model_dump().items() if not shown]
    return [f"Hidden from the judge: {', '.join(hidden)}."] if hidden else []


def _throw_away(out: Path) -> None:
    for pattern in ("answers-*", "verdicts-*"):
        for path in out.glob(pattern):
            path.unlink()


def _rubric(hidden: str) -> Rubric:
    names = [name.strip() for name in hidden.split(",") if name.strip()]
    for name in names:
        if name not in HIDEABLE:
            raise unknown("--hide", name, HIDEABLE)
    return Rubric.model_validate(dict.fromkeys(names, False))


def _servers(options: Namespace, out: Path) -> tuple[Server, Server]:
    """The model's server and the judge's; they share cache and budget."""
    cache = ResponseCache(out / "responses.sqlite")
    server = Server(
        cache, Ledger(options.budget, cache.spent()), options.url, options.key_variable, options.workers,
        options.timeout, requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute, retry_failed=options.retry_failed,
    )  # fmt: skip
    key = options.judge_key_variable or options.key_variable
    return server, replace(server, url=options.judge_url or options.url, key_variable=key)
