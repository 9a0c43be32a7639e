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
from data.errors import PERMANENT, RowFailed, UserError
from data.rows import Row, atomic, read_records
from data.stage import Stage, check_settings, current_rows, read_stage, run_stage
from data.stage_meta import digest
from eval.records import Answer, Ask, Case, LedgerRow, Verdict

LONGEST_SLUG = 150  # file systems allow 255 bytes, and the stage, the arm and a suffix take theirs
ADVICE = "name another --out folder, or add --redo to throw away the answers and verdicts there"


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
        """The name as part of file names, which must not be too long; a path's end tells most."""
        whole = re.sub(r"[^\w.-]+", "_", self.name).strip("_")
        return whole if len(whole) <= LONGEST_SLUG else f"{digest(self.name)}-{whole[-LONGEST_SLUG // 2 :]}"


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

        stage = Stage(
            name, settings, each=each, workers=model.workers, note=model.spent,
            advice=ADVICE, keeps_others=True,
        )  # fmt: skip
    else:
        make: Callable[[], Answering] | None = getattr(model, "make", None)  # of a model that workers load
        stage = Stage(
            name, settings, batch=partial(_answer_whole, model.answer_batch), batch_size=model.batch_size,
            make=partial(_made_whole, make) if make else None, advice=ADVICE, keeps_others=True,
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


async def judge_answers(
    judges: Sequence[Judge],
    backup: Judge | None,
    asks: Mapping[str, Sequence[Ask]],
    cases: Sequence[Case],
    out: Path,
    retry: bool,
) -> list[str]:
    """Bring every judge's verdicts up to date; the backup sees what the first declined to judge.

    One judge after another goes through all arms, so that one that is down keeps no other from judging.
    Returns a sentence for each that stopped; what it has not judged stays unjudged. A backup that is
    one of the judges has seen everything already.
    """
    shown = {arm: _exhibits(arm, of_arm, cases, out) for arm, of_arm in asks.items()}
    own = [backup] if backup and backup.slug not in {judge.slug for judge in judges} else []
    for judge in (*judges, *own):
        for arm in asks:
            check_settings(_stage(judge, arm), out)  # a folder of other settings is the user's to sort out
    stopped = [await _judge(judge, shown, out, retry) for judge in judges]
    for judge in own:
        declined = {arm: _declined(judges[0], arm, exhibits, out) for arm, exhibits in shown.items()}
        stopped.append(await _judge(judge, declined, out, retry))
    return [sentence for sentence in stopped if sentence]


async def _judge(judge: Judge, shown: Mapping[str, Sequence[Exhibit]], out: Path, retry: bool) -> str:
    """One judge through all arms; what stopped it, or nothing."""
    try:
        for arm, exhibits in shown.items():
            await run_stage(_stage(judge, arm), exhibits, out, retry)
    except UserError as error:
        return f"The judge {judge.name} stopped: {error}"
    return ""


def _stage(judge: Judge, arm: str) -> Stage[Exhibit, Verdict]:
    return Stage(
        _verdicts(judge, arm), judge.settings, each=judge.each, batch=judge.batch,
        batch_size=judge.batch_size, workers=judge.workers, note=judge.note,
        advice=ADVICE, keeps_others=True,
    )  # fmt: skip


def _verdicts(judge: Judge, arm: str) -> str:
    return f"verdicts-{arm}-{judge.slug}"


def _exhibits(arm: str, asks: Sequence[Ask], cases: Sequence[Case], out: Path) -> list[Exhibit]:
    """What there is to judge: answers to what is asked now, in order of the cases."""
    name = f"answers-{arm}"
    current = current_rows(out, name, asks)
    said = read_stage(out, name, Answer) if current else ()
    answers = {answer.case: answer for answer in said if answer.id in current}
    return [
        _exhibit(case, answers[case.id])
        for case in cases
        if case.id in answers and answers[case.id].state != "provider_blocked"
    ]


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


def _declined(judge: Judge, arm: str, exhibits: Sequence[Exhibit], out: Path) -> list[Exhibit]:
    """Those that the judge refused, or gave no readable verdict on."""
    rows = current_rows(out, _verdicts(judge, arm), exhibits)
    return [exhibit for exhibit in exhibits if rows.get(exhibit.id, {}).get("failed") in PERMANENT]


def build_ledger(
    model: MultimodalModel,
    asks: Mapping[str, Sequence[Ask]],
    cases: Sequence[Case],
    judges: Sequence[Judge],
    backup: Judge | None,
    leakage: Mapping[str, float],
    out: Path,
) -> list[LedgerRow]:
    """Every case in every arm in exactly one state; written to `ledger.jsonl`.

    An answer counts only for what is asked now, and a verdict only for the answer as it is now.
    """
    settings = digest(json.dumps(dict(model.settings), sort_keys=True, default=str))
    rows: list[LedgerRow] = []
    for arm, of_arm in asks.items():
        answers = current_rows(out, f"answers-{arm}", of_arm)
        exhibits = _exhibits(arm, of_arm, cases, out)
        tables = {judge.name: current_rows(out, _verdicts(judge, arm), exhibits) for judge in judges}
        spare = current_rows(out, _verdicts(backup, arm), exhibits) if backup else {}
        for case, ask in zip(cases, of_arm, strict=True):
            found = {name: table.get(ask.id, {}) for name, table in tables.items()}
            verdict = found[judges[0].name]
            if verdict.get("failed") in PERMANENT and "label" in spare.get(ask.id, {}):
                verdict = spare[ask.id]
            row = _of_case(case, ask, model, settings, leakage) | _outcome(answers.get(ask.id, {}), verdict)
            if len(judges) > 1:
                row["labels"] = {name: each.get("label") for name, each in found.items()}
            rows.append(LedgerRow.model_validate(row))
    write_ledger(out / "ledger.jsonl", rows)
    return rows


def _of_case(
    case: Case, ask: Ask, model: MultimodalModel, settings: str, leakage: Mapping[str, float]
) -> dict[str, object]:
    return {
        "id": ask.id, "case": case.id, "arm": ask.arm, "model": model.name,
        "question": case.question, "image": case.image_name, "image_key": case.image_key,
        "category": case.category, "sub_category": case.sub_category, "is_safe": case.is_safe,
        "leakage": leakage.get(case.id), "settings": settings, "revision": model.revision,
        "image_sha256": ask.image_sha256,
    }  # fmt: skip


def _outcome(answer: Row, verdict: Row) -> dict[str, object]:
    """The one state of a row, and what there is to say of it."""
    if "prompt" not in answer:
        detail = f"{answer.get('failed', 'never asked')}: {answer.get('detail', '')}".rstrip(": ")
        return {"state": "model_error", "detail": detail}
    state = answer.get("state", "answered")
    said = {
        "text": answer.get("text", ""),
        "finish_reason": answer.get("finish_reason", "stop"),  # what stands for itself is not written
        "prompt": answer["prompt"],
    }
    if state == "provider_blocked":
        return said | {"state": state}
    if "label" not in verdict:
        why = f"{verdict.get('failed', 'never judged')}: {verdict.get('detail', '')}".rstrip(": ")
        return said | {"state": "unjudged", "detail": why}
    return said | {"state": state} | {key: verdict[key] for key in ("label", "reason", "judge")}


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
