"""Where the batches of a model stage are worked on: in this process, or by Ray's workers on one or many machines.

An engine changes how fast rows are made, never which: `run_stage` writes them either way. In a profile:

    [engine.draw]        # likewise audit and filter
    actors = 4           # workers, each with the stage's model loaded
    gpus = 1             # of each worker; a fraction lets several share a card
    batch_size = 32      # rows a worker is given at a time
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data.errors import RowFailed, UserError, missing_package, unknown, unwritten

if TYPE_CHECKING:
    from data.embedders import Embedder, Vectors

REPOSITORY = Path(__file__).resolve().parents[1]
ROWS_AT_ONCE = 200_000  # in Ray's object store; workers load their model anew for the next so many
TRIES = 3  # of a batch whose worker died; its rows are then failed rows, which the next run tries again
EMBEDDED_TOGETHER = 2048  # texts
STAYS_HERE = (".git", ".venv", "runs", "docs", "**/__pycache__", ".*_cache")  # not sent to other machines


class Identified(Protocol):
    """A record with an id."""

    @property
    def id(self) -> str: ...


Work = Callable[[Sequence[Any]], Sequence[Any]]  # records in; one result or `RowFailed` each, in order
Done = list[tuple[str, Any]]  # ids with their results


class Pool(BaseModel):
    """The workers of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actors: int = Field(1, gt=0)
    gpus: float = Field(0.0, ge=0)  # of each
    cpus: float = Field(1.0, gt=0)
    batch_size: int | None = Field(None, gt=0)  # None: the stage's own


class Engine(Protocol):
    """Works batches off. `spreads` tells whether somebody else's process does."""

    spreads: bool

    def run(
        self, stage: str, make: Callable[[], Work], records: Iterable[Identified], size: int
    ) -> Iterator[Done]:
        """Every record's id and result, a batch at a time, in any order. `make` makes a worker's function."""
        ...

    def once(self, stage: str, ask: Callable[[], Any]) -> Any:
        """What `ask` answers where the stage's workers are."""
        ...


class LocalEngine:
    """This process: one batch after the other."""

    spreads = False

    def run(
        self,
        stage: str,  # noqa: ARG002 - as engines are called
        make: Callable[[], Work],
        records: Iterable[Identified],
        size: int,
    ) -> Iterator[Done]:
        work, rest = make(), iter(records)
        while chunk := list(islice(rest, size)):
            yield _paired(chunk, try_batch(work, chunk))

    def once(self, stage: str, ask: Callable[[], Any]) -> Any:  # noqa: ARG002
        return ask()


class RayEngine:
    """Ray Data with a pool of actors per stage. A batch whose worker dies is worked on by another."""

    spreads = True

    def __init__(self, pools: Mapping[str, Pool], address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise missing_package("ray", "ray") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # what a person should know, the stage says
        self._pools, self._address = pools, address
        self._ray: Any = ray

    def _start(self) -> None:
        """Connect when the first batch is due: a run with nothing left to do starts nothing."""
        if self._ray.is_initialized():
            return
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if self._address:
                there = {"working_dir": str(REPOSITORY), "excludes": list(STAYS_HERE)}
                self._ray.init(address=self._address, runtime_env=there, **quiet)
            else:
                self._ray.init(include_dashboard=False, **quiet)  # on this machine
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"Ray does not start at {self._address or 'this machine'}: {reason}") from error

    def _pool(self, stage: str) -> Pool:
        """The stage's pool. Raises `UserError` for one that would wait for ever."""
        self._start()
        pool, there = self._pools.get(stage, Pool()), self._ray.cluster_resources()
        for kind, each in (("GPU", pool.gpus), ("CPU", pool.cpus)):
            if each * pool.actors > there.get(kind, 0.0):
                raise UserError(
                    f"[engine.{stage}] asks for {pool.actors} x {each:g} {kind}, and Ray has "
                    f"{there.get(kind, 0.0):g}: ask for less, or name a larger cluster with --ray-address."
                )
        return pool

    def run(
        self, stage: str, make: Callable[[], Work], records: Iterable[Identified], size: int
    ) -> Iterator[Done]:
        rest = iter(records)
        for first in rest:  # nothing is started where nothing is due
            pool = self._pool(stage)
            some = chain([first], islice(rest, ROWS_AT_ONCE - 1))
            yield from self._spread(make, some, pool, pool.batch_size or size)

    def _spread(
        self, make: Callable[[], Work], records: Iterator[Identified], pool: Pool, size: int
    ) -> Iterator[Done]:
        """One Ray Data run: a block per batch, so that a lost worker costs one batch's time."""
        pack = self._ray.cloudpickle.dumps  # what travels is ours: no stranger's pickle is ever opened
        ids: list[list[str]] = []
        items: list[dict[str, Any]] = []
        while chunk := list(islice(records, size)):
            items.append({"place": len(ids), "rows": pack(chunk)})
            ids.append([record.id for record in chunk])
        # A batch that cannot be worked on even so must not take the others with it.
        context = self._ray.data.DataContext.get_current()
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # One batch in flight per worker: its death must not use up the tries of batches that only wait for it.
        compute = self._ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1)
        source = self._ray.data.from_items(items, override_num_blocks=len(items))
        with (
            warnings.catch_warnings()
        ):  # Ray warns of these two names; the extra is pinned to versions with them
            warnings.simplefilter("ignore")
            todo = source.map(
                _Worker, fn_constructor_args=(make,), num_cpus=pool.cpus, num_gpus=pool.gpus or None,
                compute=compute, max_restarts=-1, max_task_retries=TRIES,
            )  # fmt: skip
        left = set(range(len(ids)))
        for row in todo.iter_rows():
            place, said = int(row["place"]), self._ray.cloudpickle.loads(row["results"])
            if isinstance(said, UserError):
                raise said
            left.remove(place)
            yield list(zip(ids[place], said, strict=True))
        for place in sorted(left):
            lost = RowFailed("worker_lost", f"its worker died {TRIES + 1} times, for want of memory perhaps")
            yield [(identity, lost) for identity in ids[place]]

    def once(self, stage: str, ask: Callable[[], Any]) -> Any:
        pool = self._pool(stage)
        task = self._ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus, max_calls=1)(_caught)
        said = self._ray.get(task.remote(ask))
        if isinstance(said, UserError):
            raise said
        return said

    def close(self) -> None:
        if self._ray.is_initialized():
            self._ray.shutdown()


class _Worker:
    """A Ray actor: makes its function once, then works batches off."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self._make = make
        self._work: Work | None = None

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle  # type: ignore[attr-defined, unused-ignore]

        dumps: Any = cloudpickle.dumps
        said = _caught(lambda: self._results(cloudpickle.loads(item["rows"])))
        return {"place": item["place"], "results": dumps(said)}

    def _results(self, chunk: Sequence[Any]) -> Sequence[Any]:
        if self._work is None:
            try:
                self._work = self._make()
            except UserError:
                raise
            except Exception as error:  # noqa: BLE001 - Ray would only say that the batch is lost, not why
                return [as_failure(error)] * len(chunk)
        return try_batch(self._work, chunk)


def _caught(ask: Callable[[], Any]) -> Any:
    """What it answers, or the `UserError` it raises: Ray would wrap that in a traceback of its own."""
    try:
        return ask()
    except UserError as error:
        return error


def try_batch(work: Work, chunk: Sequence[Any]) -> Sequence[Any]:
    """One batch; if it breaks, its rows are tried one by one so that only the guilty one fails."""
    try:
        return work(chunk)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - one row's fault must not touch another's
        if len(chunk) == 1:
            return [as_failure(error)]
    return [try_batch(work, [record])[0] for record in chunk]


def as_failure(error: Exception) -> RowFailed:
    """The row's failure. Raises `UserError` where the disk is to blame: no other row would fare better."""
    if isinstance(error, OSError) and (problem := unwritten(error)) is not None:
        raise problem from error
    return error if isinstance(error, RowFailed) else RowFailed("error", f"{type(error).__name__}: {error}")


def _paired(chunk: Sequence[Identified], results: Sequence[Any]) -> Done:
    return [(record.id, result) for record, result in zip(chunk, results, strict=True)]


LOCAL = LocalEngine()
ENGINES: dict[str, Callable[[Mapping[str, Pool], str | None], Engine]] = {
    "local": lambda _, __: LOCAL,
    "ray": RayEngine,
}


@contextmanager
def opened_engine(name: str, pools: Mapping[str, Pool], address: str | None = None) -> Iterator[Engine]:
    """The engine called `name`, for as long as the block lasts."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if address and name != "ray":
        raise UserError("--ray-address goes with --engine ray.")
    engine = ENGINES[name](pools, address)
    try:
        yield engine
    finally:
        if isinstance(engine, RayEngine):
            engine.close()


class Text(NamedTuple):
    """A text to be embedded."""

    id: str
    text: str


class SpreadEmbedder:
    """An embedder whose texts an engine's workers embed. Vectors come in the order of the texts."""

    def __init__(self, name: str, engine: Engine, stage: str, load: Callable[[], Embedder]) -> None:
        self.name = name
        self._engine, self._stage, self._load = engine, stage, load

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, d) unit rows."""
        distinct = list(dict.fromkeys(texts))
        made: dict[str, Vectors] = {}
        asked = (Text(str(place), text) for place, text in enumerate(distinct))
        for done in self._engine.run(self._stage, partial(_embedding, self._load), asked, EMBEDDED_TOGETHER):
            for identity, vector in done:
                if isinstance(vector, RowFailed):
                    raise UserError(f"The texts cannot be embedded ({vector}): run the same command again.")
                made[distinct[int(identity)]] = vector
        return np.stack([made[text] for text in texts]) if texts else self._load().embed([])


def _embedding(load: Callable[[], Embedder]) -> Work:
    """What a worker embeds with."""
    embedder = load()
    return lambda some: list(embedder.embed([each.text for each in some]))


def say_stays_local(stage: str, why: str) -> None:
    """Tell that a stage is not spread, and why."""
    print(f"note: stage {stage} runs in this process: {why}.", file=sys.stderr)
