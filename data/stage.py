"""Running a stage: resume, fingerprint, progress and failures, all in this one place.

A stage maps records to records. Each result is appended to `<stage>.jsonl` the moment it exists,
together with a digest of the input it was made of (`of`); a rerun repeats only rows that are
missing, failed for a passing reason, or were made of an input that has changed since. Rows that failed
for good (a refusal, say) wait for `retry_failed`.

Inputs are read twice, a row at a time, and never held: memory does not grow with them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from data.engines import LOCAL, Done, Engine
from data.errors import PERMANENT, RowFailed, UserError, unwritten
from data.progress import StageProgress
from data.records import Record
from data.row_workers import interruptible, work_off
from data.rows import Row, RowFile, foreign_row, read_records, read_rows, write_json
from data.stage_meta import Spend, StageMeta, difference, digest, meta_path, read_meta

__all__ = [
    "Stage",
    "StageMeta",
    "check_settings",
    "current_rows",
    "digest",
    "read_meta",
    "read_stage",
    "run_stage",
]


class Identified(Protocol):
    """A record with an id."""

    @property
    def id(self) -> str: ...

    def model_dump_json(self) -> str: ...


In = TypeVar("In", bound=Identified)
Out = TypeVar("Out", bound=Record)


@dataclass(frozen=True)
class Stage(Generic[In, Out]):
    """How one stage works: `each` row on its own, asynchronously, or in `batch`es.

    `batch_size` None means all rows at once, for stages that compare rows with each other.
    `make` makes the same function in another process, which an engine can send it to; a stage without it
    stays in this one. `settings` is what the results depend on; worker counts and secrets do not belong there.
    `advice` says, by the flags of the command that runs the stage, what to do about rows of other settings.
    """

    name: str
    settings: Mapping[str, object]
    each: Callable[[In], Awaitable[Out]] | None = None
    batch: Callable[[Sequence[In]], Sequence[Out | RowFailed]] | None = None
    batch_size: int | None = None
    make: Callable[[], Callable[[Sequence[In]], Sequence[Out | RowFailed]]] | None = (
        None  # `batch`, elsewhere
    )
    workers: int = 16
    note: Callable[[], str] = field(default=lambda: "")  # shown beside the progress bar
    spend: Callable[[], Spend | None] = field(default=lambda: None)  # what its rows cost so far
    made_of: Callable[[], dict[str, str]] = field(default=dict)  # what the stages before pass on
    advice: str = "name another --run folder, or add --redo {stage} to make it again here"
    keeps_others: bool = False  # whether rows of inputs that are not among the present ones stay

    @property
    def together(self) -> bool:
        """Whether all rows are made at once, being compared with each other."""
        return self.each is None and self.batch_size is None

    @property
    def fingerprint(self) -> str:
        return digest(json.dumps(self.settings, sort_keys=True, default=str))


async def run_stage(
    stage: Stage[In, Out],
    inputs: Iterable[In],
    folder: Path,
    retry_failed: bool = False,
    engine: Engine = LOCAL,
) -> StageMeta:
    """Bring `<stage>.jsonl` in `folder` up to date with `inputs` and say what came of it.

    `inputs` can be iterated more than once; of inputs that are the same the first counts. Raises `UserError`
    when the rows there were made with other settings, or when two different inputs have one id; rows finished
    before any error stay. While rows are still to be made the stage counts as unfinished.
    """
    meta = _open_meta(stage, folder)
    started = time.monotonic()
    rows = RowFile(folder / f"{stage.name}.jsonl")
    try:
        of = _digests(stage, inputs)
        due = {each for each in of if not _is_done(rows, each, of[each], retry_failed)}
        if due:
            due = set(of) if stage.together else due
            meta = meta.model_copy(update={"finished": False})
            write_json(meta_path(folder, stage.name), meta.model_dump())
        todo = _each_once(inputs, due)
        with StageProgress(stage.name, len(of), len(of) - len(due), stage.note) as progress:
            append = _appended(rows, of, progress)
            if stage.each is not None:
                await work_off(stage.each, todo, min(stage.workers, len(due)), append)
            else:
                _run_batches(stage, todo, append, engine)
        others = [identity for identity in rows.index if identity not in of] if stage.keeps_others else ()
        rows.rewrite((*of, *others))
        meta = _count(meta, folder, of, time.monotonic() - started, len(due))
        meta = meta.model_copy(update={"made_of": stage.made_of()})
    finally:
        rows.close()
        write_json(
            meta_path(folder, stage.name), meta.model_copy(update={"spend": stage.spend()}).model_dump()
        )
    return meta


def read_stage(folder: Path, name: str, record: type[Out]) -> Iterator[Out]:
    """The records a stage made, in input order, the latest of each id; its failed rows are left out."""
    yield from read_records(folder / f"{name}.jsonl", record, leave_out=("of",), latest=True)


def current_rows(folder: Path, name: str, inputs: Iterable[In]) -> dict[str, Row]:
    """By id, a stage's rows, failed ones too, that were each made of one of these inputs as it is now.

    A run that was stopped leaves rows of inputs that have changed since; they are not among these.
    """
    path = folder / f"{name}.jsonl"
    latest = {row["id"]: row for row in read_rows(path)} if path.exists() else {}
    of = {record.id: _digest(record) for record in inputs}
    return {
        identity: latest[identity] for identity in of if latest.get(identity, {}).get("of") == of[identity]
    }


def check_settings(stage: Stage[In, Out], folder: Path) -> None:
    """Raise `UserError` when the stage's rows in `folder` were made with other settings."""
    meta = read_meta(folder, stage.name)
    if meta is not None and meta.fingerprint != stage.fingerprint:
        raise UserError(
            f"Stage {stage.name!r} in {folder} was made with other settings "
            f"({difference(meta.settings, stage.settings)}): {stage.advice.format(stage=stage.name)}."
        )


def _open_meta(stage: Stage[In, Out], folder: Path) -> StageMeta:
    """The stage's meta file, written before its first row; stale rows are refused."""
    check_settings(stage, folder)
    meta = read_meta(folder, stage.name)
    if meta is None:
        if (folder / f"{stage.name}.jsonl").exists():
            raise UserError(
                f"{folder} holds {stage.name}.jsonl without its meta file: "
                f"{stage.advice.format(stage=stage.name)}."
            )
        settings = json.loads(json.dumps(stage.settings, default=str))
        meta = StageMeta(stage=stage.name, fingerprint=stage.fingerprint, settings=settings)
        write_json(meta_path(folder, stage.name), meta.model_dump())
    return meta


def _digests(stage: Stage[In, Out], inputs: Iterable[In]) -> dict[str, str]:
    """What each row is made of: its input; where rows are compared with each other, all of them."""
    own: dict[str, str] = {}
    for record in inputs:
        of = _digest(record)
        if own.setdefault(record.id, of) != of:
            raise UserError(
                f"Stage {stage.name!r} is given two different rows with the id {record.id!r}: ids must tell "
                "rows apart, so give one of them another."
            )
    if stage.together:
        together = digest("".join(own.values()))
        return dict.fromkeys(own, together)
    return own


def _each_once(inputs: Iterable[In], due: Set[str]) -> Iterator[In]:
    """The inputs that are due, in order, none of them twice."""
    waiting = set(due)
    for record in inputs:
        if record.id in waiting:
            waiting.remove(record.id)
            yield record


def _digest(record: Identified) -> str:
    return digest(record.model_dump_json())


def _is_done(rows: RowFile, identity: str, of: str, retry_failed: bool) -> bool:
    entry = rows.index.get(identity)
    if entry is None or entry.of != of:
        return False
    return not entry.failed or (entry.failed in PERMANENT and not retry_failed)


def _run_batches(
    stage: Stage[In, Out], todo: Iterator[In], append: Callable[[Done], None], engine: Engine
) -> None:
    assert stage.batch is not None
    batch = stage.batch
    with interruptible():
        if stage.batch_size is None:
            records = list(todo)
            if records:  # rows that are judged together cannot fail apart
                append([(record.id, result) for record, result in zip(records, batch(records), strict=True)])
            return
        elsewhere = engine.spreads and stage.make is not None
        make = stage.make if elsewhere and stage.make else lambda: batch
        chosen = engine if elsewhere else LOCAL
        for results in chosen.run(stage.name, make, todo, stage.batch_size):
            append(results)


def _appended(rows: RowFile, of: Mapping[str, str], progress: StageProgress) -> Callable[[Done], None]:
    """What takes results: each is in the stage file before the next is worked on."""

    def append(results: Done) -> None:
        try:
            for identity, result in results:
                rows.append(_row(identity, of[identity], result))
        except OSError as error:
            raise unwritten(error) or UserError(f"Cannot write to {rows.path}: {error}.") from error
        progress.advance(len(results))

    return append


def _row(identity: str, of: str, result: Record | RowFailed) -> Row:
    if isinstance(result, RowFailed):
        return {"id": identity, "of": of, "failed": result.reason, "detail": result.detail}
    return {
        "id": identity,
        "of": of,
        **result.model_dump(mode="json", exclude_defaults=True),
    }


def _count(meta: StageMeta, folder: Path, of: Mapping[str, str], seconds: float, fresh: int) -> StageMeta:
    """The meta with what became of every row that entered."""
    rejected: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    path = folder / f"{meta.stage}.jsonl"
    for number, row in enumerate(read_rows(path), start=1):
        if row["id"] not in of:
            continue
        try:
            if "failed" in row:
                failed[row["failed"]] += 1
            elif row.get("rejected"):
                rejected[row["rejected"]["reason"]] += 1
            elif row.get("repaired", {}).get("stage") == meta.stage:
                repaired[row["repaired"]["reason"]] += 1
        except (TypeError, KeyError, AttributeError) as error:
            raise foreign_row(path, number) from error
    lost = sum(rejected.values()) + sum(failed.values())
    changes = {
        "finished": True,
        "entered": len(of),
        "kept": len(of) - lost,
        "rejected": dict(sorted(rejected.items())),
        "failed": dict(sorted(failed.items())),
        "repaired": dict(sorted(repaired.items())),
        "seconds": round(meta.seconds + seconds, 2) if fresh else meta.seconds,
        "fresh": fresh,
    }
    return meta.model_copy(update=changes)
