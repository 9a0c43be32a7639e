"""Answers and verdicts as two resumable phases, and the ledger they add up to.

answers-<arm>.jsonl             what the model said; a failed call is a failed row, tried again by a rerun
verdicts-<arm>-<judge>.jsonl    what a judge found of it; likewise
ledger.jsonl                    one row per case and arm, in exactly one state
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from data.engines import LOCAL, Engine
from data.errors import RowFailed, UserError
from data.rows import Row, atomic, read_records, read_rows
from data.stage import Stage, check_settings, read_stage, run_stage
from data.stage_meta import digest
from eval.records import Answer, Ask, Case, Label, LedgerRow, Verdict


@runtime_checkable
class BatchModel(Protocol):
    """A model that answers batches; the picture a row has may be looked at or not."""

    name: str
    revision: str
    settings: Mapping[str, object]
    batch_size: int

    def answer_batch(self, asks: Sequence[Ask]) -> Sequence[Answer | RowFailed]: ...


@runtime_checkable
class AsyncModel(Protocol):
    """A model that answers one at a time, many at once."""

    name: str
    revision: str
    settings: Mapping[str, object]
    workers: int

    async def answer(self, ask: Ask) -> Answer: ...

    def spent(self) -> str: ...


MultimodalModel = BatchModel | AsyncModel


class Exhibit(Ask):
    """What a judge is shown: the pair as the benchmark has it, whatever the arm, and the answer."""

    answer: str
    image_description: str = ""
    safety_reason: str = ""


@dataclass(frozen=True)
class Judge:
    """A judge by name; `each` exhibit on its own or in a `batch`."""

    name: str
    settings: Mapping[str, object]
    each: Callable[[Exhibit], Awaitable[Verdict]] | None = None
    batch: Callable[[Sequence[Exhibit]], Sequence[Verdict | RowFailed]] | None = None
    batch_size: int = 8
    workers: int = 16
    note: Callable[[], str] = lambda: ""

    @property
    def slug(self) -> str:
        return re.sub(r"[^\w.-]+", "_", self.name).strip("_")


class JudgeStopped(Exception):
    """No judge can go on, such as a server that is down; what it has not judged stays unjudged."""


def fingerprint(ask: Ask) -> str:
    """Changes when the question or the picture does."""
    return digest(f"{ask.question}\0{ask.image_sha256}")


async def answer_arm(
    model: MultimodalModel, arm: str, asks: Sequence[Ask], out: Path, retry: bool, engine: Engine = LOCAL
) -> None:
    """Bring the arm's answers up to date."""
    settings = {**model.settings, "revision": model.revision}
    name = f"answers-{arm}"
    stage: Stage[Ask, Answer]
    if isinstance(model, AsyncModel):
        ask_model = model.answer

        async def each(ask: Ask) -> Answer:
            _check(ask)
            return await ask_model(ask)

        stage = Stage(name, settings, each=each, workers=model.workers, note=model.spent)
    else:
        make: Callable[[], Answering] | None = getattr(model, "make", None)  # of a model that workers load
        stage = Stage(
            name, settings, batch=partial(_answer_whole, model.answer_batch), batch_size=model.batch_size,
            make=partial(_made_whole, make) if make else None,
        )  # fmt: skip
    await run_stage(stage, asks, out, retry, engine)


def _check(ask: Ask) -> None:
    if ask.problem:
        raise RowFailed("cannot_ask", ask.problem)


Answering = Callable[[Sequence[Ask]], Sequence[Answer | RowFailed]]


def _made_whole(make: Callable[[], Answering]) -> Answering:
    return partial(_answer_whole, make())


def _answer_whole(answer: Answering, asks: Sequence[Ask]) -> list[Answer | RowFailed]:
    """Answers to those that can be asked; the others say why not."""
    whole = [ask for ask in asks if not ask.problem]
    answers = iter(answer(whole) if whole else ())
    return [RowFailed("cannot_ask", ask.problem) if ask.problem else next(answers) for ask in asks]


async def judge_arm(
    judges: Sequence[Judge], backup: Judge | None, arm: str, cases: Sequence[Case], out: Path, retry: bool
) -> None:
    """Bring every judge's verdicts on the arm up to date; the backup sees what the first could not judge."""
    answers = {answer.case: answer for answer in read_stage(out, f"answers-{arm}", Answer)}
    exhibits = [
        _exhibit(case, answers[case.id])
        for case in cases
        if case.id in answers and answers[case.id].state != "provider_blocked"
    ]
    stages = [_stage(judge, arm) for judge in (*judges, *([backup] if backup else []))]
    for stage in stages:
        check_settings(stage, out)  # a folder of other settings is the user's to sort out
    try:
        for stage in stages[: len(judges)]:
            await run_stage(stage, exhibits, out, retry)
        if backup is not None:
            declined = _declined(out, arm, judges[0])
            await run_stage(stages[-1], [each for each in exhibits if each.id in declined], out, retry)
    except UserError as error:
        raise JudgeStopped(str(error)) from error


def _stage(judge: Judge, arm: str) -> Stage[Exhibit, Verdict]:
    return Stage(
        f"verdicts-{arm}-{judge.slug}", judge.settings, each=judge.each, batch=judge.batch,
        batch_size=judge.batch_size, workers=judge.workers, note=judge.note,
    )  # fmt: skip


def _exhibit(case: Case, answer: Answer) -> Exhibit:
    return Exhibit(
        id=answer.id,
        case=case.id,
        arm=answer.arm,
        question=case.question,
        image=case.image,
        image_sha256=case.image_sha256,
        answer=answer.text,
        image_description=case.image_description,
        safety_reason=case.safety_reason,
    )


DECLINED = frozenset({"refused", "blocked", "truncated", "invalid_reply", "empty_reply", "bad_request"})


def _declined(out: Path, arm: str, judge: Judge) -> set[str]:
    """Answers that the judge refused, or gave no readable verdict on."""
    rows = read_rows(out / f"verdicts-{arm}-{judge.slug}.jsonl")
    return {row["id"] for row in rows if row.get("failed") in DECLINED}


def build_ledger(
    model: MultimodalModel,
    arms: Sequence[str],
    cases: Sequence[Case],
    judges: Sequence[Judge],
    backup: Judge | None,
    leakage: Mapping[str, float],
    out: Path,
) -> list[LedgerRow]:
    """Every case in every arm in exactly one state; written to `ledger.jsonl`."""
    settings = digest(json.dumps(dict(model.settings), sort_keys=True, default=str))
    rows: list[LedgerRow] = []
    for arm in arms:
        answers = _latest(out / f"answers-{arm}.jsonl")
        verdicts = {judge.name: _latest(out / f"verdicts-{arm}-{judge.slug}.jsonl") for judge in judges}
        spare = _latest(out / f"verdicts-{arm}-{backup.slug}.jsonl") if backup else {}
        for case in cases:
            identity = f"{case.id}:{arm}"
            found = [table.get(identity, {}) for table in verdicts.values()]
            if "label" not in found[0] and "label" in spare.get(identity, {}):
                found[0] = spare[identity]
            common = _of_case(case, arm, model, settings, leakage)
            row = _outcome(answers.get(identity, {}), found)
            several = {name: _label(verdict) for name, verdict in zip(verdicts, found, strict=True)}
            rows.append(
                LedgerRow.model_validate(common | row | ({"labels": several} if len(several) > 1 else {}))
            )
    write_ledger(out / "ledger.jsonl", rows)
    return rows


def _of_case(
    case: Case, arm: str, model: MultimodalModel, settings: str, leakage: Mapping[str, float]
) -> dict[str, object]:
    return {
        "id": f"{case.id}:{arm}", "case": case.id, "arm": arm, "model": model.name,
        "question": case.question, "image": case.image_name, "image_key": case.image_key,
        "category": case.category, "sub_category": case.sub_category, "is_safe": case.is_safe,
        "leakage": leakage.get(case.id), "settings": settings, "revision": model.revision,
        "image_sha256": case.image_sha256,
    }  # fmt: skip


def _outcome(answer: Row, verdicts: Sequence[Row]) -> dict[str, object]:
    """The one state of a row, and what there is to say of it."""
    if "prompt" not in answer:
        detail = f"{answer.get('failed', 'never asked')}: {answer.get('detail', '')}".rstrip(": ")
        return {"state": "model_error", "detail": detail}
    state = answer.get("state", "answered")
    said = {key: answer[key] for key in ("text", "finish_reason", "prompt", "image_sha256") if key in answer}
    if state == "provider_blocked":
        return said | {"state": state}
    verdict = verdicts[0]
    if "label" not in verdict:
        why = f"{verdict.get('failed', 'never judged')}: {verdict.get('detail', '')}".rstrip(": ")
        return said | {"state": "unjudged", "detail": why}
    return said | {"state": state} | {key: verdict[key] for key in ("label", "reason", "judge")}


def _label(verdict: Row) -> Label | None:
    label: Label | None = verdict.get("label")
    return label


def _latest(path: Path) -> dict[str, Row]:
    return {row["id"]: row for row in read_rows(path)} if path.exists() else {}


def write_ledger(path: Path, rows: Sequence[LedgerRow]) -> None:
    """Write the ledger by rename, fields that say nothing left out."""
    with atomic(path) as file:
        for row in rows:
            file.write(row.model_dump_json(exclude_defaults=True).encode() + b"\n")


def read_ledger(folder: Path) -> list[LedgerRow]:
    """The rows of a finished evaluation."""
    path = folder / "ledger.jsonl"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no ledger.jsonl: evaluate a model into it with `python -m eval.run`."
        )
    return list(read_records(path, LedgerRow))
