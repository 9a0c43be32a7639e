"""A run's folder: one process at a time, and the plan that says what its stages are.

`run.plan.json`, written by the conductor before the first stage:

{"stages": ["elements", "describe", "rewrite", "draw", "audit", "verify", "filter"],
 "name": "Offline demo benchmark", "license": "apache-2.0", "embedder": "minilm",
 "models": {"writing": "offline: scene-bank", "pictures": "sketch"}}
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import Field

from data.errors import UserError
from data.records import Record
from data.rows import write_json

PLAN = "run.plan.json"
LOCK = ".lock"


class Plan(Record):
    """What the tools that come after a run need to know of it."""

    stages: tuple[str, ...]  # in order; the last decides which pairs stay
    name: str
    license: str = "other"
    embedder: str = "minilm"  # the auditor's
    models: dict[str, str] = Field({})  # who did what

    def before(self, stage: str) -> str:
        """The stage whose rows a stage works on."""
        return self.stages[self.stages.index(stage) - 1]


@contextmanager
def locked(folder: Path, flag: str = "--run") -> Iterator[None]:
    """One process per folder; the lock goes with the process, however it ends. `flag` names another folder.

    A folder that was not there before and holds nothing in the end, as where a command is refused, goes again.
    """
    made = [each for each in (folder, *folder.absolute().parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w")
    except OSError as error:
        raise UserError(f"Cannot write to the folder {folder}: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is working on {folder}: wait for it, or name another {flag}."
            ) from error
        try:
            yield
        finally:
            _remove_empty(made)


def _remove_empty(made: Sequence[Path]) -> None:
    """Remove the folders, innermost first, that hold nothing but a lock."""
    with suppress(OSError):  # somebody else is quicker: it is theirs now
        for folder in made:
            if any(each.name != LOCK for each in folder.iterdir()):
                return
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the plan, unless it stands there already."""
    try:
        known = read_plan(folder)
    except UserError:  # there is none, or what is there is damaged
        known = None
    if known != plan:
        write_json(folder / PLAN, plan.model_dump(mode="json"))


def read_plan(folder: Path) -> Plan:
    """The plan of a run. Raises `UserError` where there is none."""
    try:
        return Plan.model_validate_json((folder / PLAN).read_text())
    except OSError as error:
        raise UserError(
            f"{folder} is not the folder of a run (it has no {PLAN}): name one that construct.run has made."
        ) from error
    except ValueError as error:  # not JSON, not a plan, not even text
        raise UserError(f"{folder / PLAN} is damaged: run construct.run on that folder again.") from error
