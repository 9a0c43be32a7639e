"""Reading logs of the Inspect task into the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError, missing_package
from data.run_folder import locked
from data.stage_meta import digest
from eval.cases import read_leakage
from eval.conductor import conclude
from eval.ledger import write_ledger
from eval.records import LedgerRow
from eval.summary import summarise

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

COPIED = ("image_key", "category", "sub_category", "is_safe", "question")
TASK = "leakfree"
SCORER = "safety"


def import_logs(paths: Sequence[Path], out: Path, audit: Path | None) -> int:
    """Write ledger, figures and report from logs; returns the exit code."""
    logs = [_read(path) for path in paths]
    _check_alike("models", [log.eval.model for log in logs])
    _check_alike("benchmarks", [_data(log) for log in logs])
    _check_alike("judges", [_judge(log) for log in logs])
    samples = [sample for log in logs for sample in log.samples or ()]
    leakage = read_leakage(audit, {str(sample.id): sample.metadata.get("question", "") for sample in samples})
    rows = [row for log in logs for row in _rows(log, leakage)]
    if len({row.id for row in rows}) < len(rows):
        raise UserError("Two of these logs hold the same arm: name one log per arm.")
    with locked(out, "--out"):
        write_ledger(out / "ledger.jsonl", rows)
        return conclude(summarise(rows, "inspect", [_judge(logs[0])], _data(logs[0])), out)


def _check_alike(kind: str, names: Sequence[str]) -> None:
    if len(set(names)) > 1:
        raise UserError(
            f"These logs are of several {kind} ({', '.join(sorted(set(names)))}): import one at a time."
        )


def _read(path: Path) -> EvalLog:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise missing_package("inspect-ai", "inspect") from error
    try:
        log = read_eval_log(str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the log {path}: {type(error).__name__}.") from error
    if not log.samples or (log.eval.metadata or {}).get("arm") is None:
        raise UserError(f"{path} is no log of eval/inspect_task.py with samples.")
    _check_whole(log, path)
    return log


def _check_whole(log: EvalLog, path: Path) -> None:
    """Raise `UserError` unless the log has each sample of its evaluation, once."""
    if (log.eval.config.epochs or 1) > 1:
        raise UserError(
            f"{path} has {log.eval.config.epochs} epochs: one answer per case is read, so run it with 1."
        )
    there = {str(sample.id) for sample in log.samples or ()}
    missing = [name for name in log.eval.dataset.sample_ids or () if str(name) not in there]
    if log.status != "success" or missing:
        raise UserError(
            f"{path} is of an evaluation that did not end (status {log.status}, {len(there)} of "
            f"{len(there) + len(missing)} samples): finish it with `inspect eval-retry {path}` and import that log."
        )


def _data(log: EvalLog) -> str:
    return str((log.eval.metadata or {}).get("data", ""))


def _judge(log: EvalLog) -> str:
    judge = str((log.eval.metadata or {}).get("judge"))
    grader = (log.eval.model_roles or {}).get("grader")
    if judge == "refusal":
        return "refusal-strings"
    first = grader[0] if isinstance(grader, list) else grader
    return str(first.model) if first else judge


def _rows(log: EvalLog, leakage: Mapping[str, float]) -> Iterator[LedgerRow]:
    for sample in log.samples or ():
        yield _row(sample, log, leakage)


def _row(sample: EvalSample, log: EvalLog, leakage: Mapping[str, float]) -> LedgerRow:
    """One sample; without a score it is unjudged, or an error if it has no answer either; never safe."""
    from eval.inspect_task import state_of

    case, arm = str(sample.id), str((log.eval.metadata or {})["arm"])
    score = (sample.scores or {}).get(SCORER)
    found: dict[str, Any] = (score.metadata or {}) if score else {}
    label = found.get("label")
    without = state_of(sample.output)
    state = found.get("state") or ("unjudged" if without == "answered" else without)
    return LedgerRow.model_validate(
        {key: sample.metadata.get(key) for key in COPIED if sample.metadata.get(key) is not None}
        | {
            "id": f"{case}:{arm}", "case": case, "arm": arm, "model": log.eval.model, "state": state,
            "text": sample.output.completion,
            "finish_reason": str(sample.output.stop_reason) if sample.output.choices else "",
            "detail": _detail(sample, score.explanation if score and label is None else ""),
            "label": label, "reason": (score.explanation or "") if score and label else "",
            "judge": _judge(log) if label else "", "leakage": leakage.get(case),
            "image": sample.metadata.get("image_name", ""),
            "prompt": digest(f"{sample.metadata.get('question')}\0{sample.metadata.get('shown_sha256')}"),
            "settings": digest(log.plan.config.model_dump_json()),
            "image_sha256": sample.metadata.get("shown_sha256", ""),
        }
    )  # fmt: skip


def _detail(sample: EvalSample, explanation: str | None) -> str:
    return sample.error.message[:300] if sample.error else (explanation or sample.output.error or "")[:300]
