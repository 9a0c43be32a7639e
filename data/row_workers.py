"""How rows are worked off one by one: concurrently, each failing alone, and stopped without losing a result."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from data.engines import Done, Identified, as_failure
from data.errors import RowFailed, UserError

In = TypeVar("In", bound=Identified)
Out = TypeVar("Out")


async def work_off(
    each: Callable[[In], Awaitable[Out]],
    todo: Iterator[In],
    workers: int,
    append: Callable[[Done], None],
) -> None:
    """Bounded workers share one iterator: a slow row holds up only itself. `append` keeps a result.

    After an error only the user can mend, no row is begun; those under way are finished, being paid for.
    """
    stopped: list[UserError] = []

    async def work() -> None:
        for record in todo:
            try:
                append([(record.id, await _try_each(each, record))])
            except UserError as error:
                stopped.append(error)
                return
            if stopped:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    if stopped:
        raise stopped[0]


async def _try_each(each: Callable[[In], Awaitable[Out]], record: In) -> Out | RowFailed:
    """One row's result or failure. Raises `UserError` for what no other row would survive either."""
    try:
        return await each(record)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - one row's fault must not touch another's
        return as_failure(error)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends a batch where it is; asyncio's handler waits for the next `await`, and batches have none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
