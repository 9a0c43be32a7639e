"""The VSIL check: a guard judges every pair and every text alone, and what its findings come to."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import UserError
from data.llm.cache import ResponseCache
from data.llm.prices import Ledger
from data.records import Record
from data.rows import write_json
from data.run_folder import locked
from data.stage import Stage, current_rows, run_stage
from eval.arms import CAPTION, NO_DESCRIPTION, NO_PICTURE
from eval.cases import check_descriptions, check_pictures, one_audit_each, read_cases, read_leakage
from eval.guards import Finding, Guard, load_guard
from eval.models import Server
from eval.options import check_numbers
from eval.records import Ask, Case
from eval.statistics import Interval, mean_interval, ratio_interval
from eval.summary import MOST_WITHOUT_VERDICT, Rate, rate

EXIT_TOO_MANY_WITHOUT_FINDING = 3
PARTS = ("pair", "text")
ADVICE = "name another --out folder"


class VsilCheck(Record):
    """The check's figures; rows without both findings are in none of them."""

    guard: str
    rows: int
    judged: int
    r1: Rate | None
    r2: Rate | None
    ratio: Rate | None  # R2 / R1
    text_harmful: Rate | None  # text alone harmful, whatever the pair is
    prevalence: Rate | None  # the auditor's estimate of leaking pairs, where it was given


def check(cases: Sequence[Case], pair: Mapping[str, bool], text: Mapping[str, bool], guard: str) -> VsilCheck:
    """The figures from findings by case id."""
    judged = [case for case in cases if case.id in pair and case.id in text]
    images = [case.image_key for case in judged]
    harmful = [pair[case.id] for case in judged]
    both = [pair[case.id] and text[case.id] for case in judged]
    return VsilCheck(
        guard=guard,
        rows=len(cases),
        judged=len(judged),
        r1=rate(mean_interval(harmful, images)),
        r2=rate(mean_interval(both, images)),
        ratio=_share_of_harmful(ratio_interval(both, harmful, images)),
        text_harmful=rate(mean_interval([text[case.id] for case in judged], images)),
        prevalence=None,
    )


def _share_of_harmful(ratio: Interval | None) -> Rate | None:
    """R2 / R1 as a rate: what is counted in R2 is counted in R1 too, so that it ends at 1."""
    return rate(ratio and ratio._replace(high=min(ratio.high, 1.0)))


def asks_for(cases: Sequence[Case], part: str, guard: Guard) -> list[Ask]:
    """Pair or text alone, as the guard sees it, or why it cannot see it."""
    if part == "text":
        return [_ask(case, part) for case in cases]
    return [_described(case) if guard.reads_description else _shown(case) for case in cases]


def _ask(case: Case, part: str) -> Ask:
    return Ask(id=case.id, case=case.id, arm=part, question=case.question)


def _described(case: Case) -> Ask:
    if not case.image_description:
        return _ask(case, "pair").replace(problem=NO_DESCRIPTION)
    told = CAPTION.format(description=case.image_description, question=case.question)
    return _ask(case, "pair").replace(question=told)


def _shown(case: Case) -> Ask:
    problem = "" if case.image else NO_PICTURE
    return _ask(case, "pair").replace(image=case.image, image_sha256=case.image_sha256, problem=problem)


async def find(guard: Guard, asks: Mapping[str, Sequence[Ask]], out: Path, server: Server) -> None:
    """Findings on pairs and on texts, resumable."""
    try:
        for part, of_part in asks.items():
            stage: Stage[Ask, Finding] = Stage(
                f"vsil-{part}", guard.settings, each=guard.each, batch=guard.batch,
                batch_size=guard.batch_size, workers=guard.workers, advice=ADVICE, keeps_others=True,
            )  # fmt: skip
            await run_stage(stage, _whole(of_part), out, server.retry_failed)
    finally:
        await server.close()


def _whole(asks: Sequence[Ask]) -> list[Ask]:
    return [ask for ask in asks if not ask.problem]


def read_findings(out: Path, part: str, asks: Sequence[Ask]) -> dict[str, bool]:
    """Whether each row is unsafe; rows that failed are left out."""
    rows = current_rows(out, f"vsil-{part}", _whole(asks))
    return {identity: row["unsafe"] for identity, row in rows.items() if "unsafe" in row}


def read_prevalence(folder: Path | None) -> Rate | None:
    """The auditor's estimate from the `summary.json` in its --out folder."""
    if folder is None:
        return None
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        names = [str(each["source"]) for each in found["sources"]]
        estimate = found["sources"][0]["prevalence"]
        prevalence = Rate.model_validate(estimate) if estimate else None
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{folder} holds no summary.json of an audit: run `python -m audit.run` first."
        ) from error
    if len(names) > 1:
        raise one_audit_each(folder, names)
    return prevalence


def _print(found: VsilCheck, data: str, problems: Sequence[str]) -> None:
    from eval.published import published
    from eval.tables import number, percent, say, show

    lines = [
        [
            str(Path(*Path(data).parts[-2:])),  # "benchmark" alone is the name of every run's
            percent(found.r1),
            percent(found.r2),
            number(found.ratio),
            percent(found.prevalence),
        ]
    ]
    for entry in published().vsil:
        r1, r2 = entry.shares
        lines.append([f"{entry.name} (published)", f"{r1:.2f}", f"{r2:.2f}", f"{r2 / r1:.3f}", "-"])
    title = f"VSIL check by {found.guard} (published: LlamaGuard3-11B-Vision), % with 95% intervals"
    show(title, ("benchmark", "R1 pair", "R2 text too", "R2/R1", "auditor"), lines)
    if found.judged < found.rows:
        say(f"{found.rows - found.judged} of {found.rows} rows have no finding and are in no figure.")
    for problem, rows in Counter(problems).items():
        say(f"{rows} of {found.rows} rows could not be asked: {problem}.")


def run_check(options: Namespace) -> int:
    """The check from its options."""
    check_numbers(options)
    prevalence = read_prevalence(options.audit)
    with locked(options.out, "--out"):
        cache = ResponseCache(options.out / "responses.sqlite")
        server = Server(
            cache, Ledger(None, cache.spent()), options.url, options.key_variable, options.workers,
            retry_failed=options.retry_failed,
        )  # fmt: skip
        guard = load_guard(options.guard, server, options.pickled_weights)
        cases = read_cases(options.data, options.limit, options.out / "pictures")
        if options.audit:  # of these very queries? Before anything is paid for
            read_leakage(options.audit / "audit.jsonl", {case.id: case.question for case in cases})
        if guard.reads_description:
            check_descriptions(cases, options.data)
        else:
            check_pictures(cases, options.data)
        asks = {part: asks_for(cases, part, guard) for part in PARTS}
        asyncio.run(find(guard, asks, options.out, server))
        pair, text = (read_findings(options.out, part, asks[part]) for part in PARTS)
        found = check(cases, pair, text, guard.name).replace(prevalence=prevalence)
        write_json(options.out / "vsil.json", found.model_dump(mode="json"))
    _print(found, options.data, [ask.problem for ask in asks["pair"] if ask.problem])
    missing = found.rows - found.judged
    return EXIT_TOO_MANY_WITHOUT_FINDING if missing > MOST_WITHOUT_VERDICT * found.rows else 0
