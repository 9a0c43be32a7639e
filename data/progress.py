"""What a person sees of long work: a bar with rate, ETA and spend; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOG_EVERY_SECONDS = 30.0
SHOW_EVERY_SECONDS = 0.1


class StageProgress:
    """Progress of one stage. On a terminal a live bar, elsewhere a line now and then and one at the end."""

    def __init__(self, name: str, total: int, done: int, note: Callable[[], str] = str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._name, self._total, self._done, self._fresh = name, total, done, 0
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal and total > done
        self._started = self._logged = time.monotonic()
        self._note = note  # what to show beside the bar: spend, say
        self._bar = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, rate="", note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def advance(self, rows: int = 1) -> None:
        """Count rows as done."""
        self._done += rows
        self._fresh += rows
        silent = time.monotonic() - self._logged
        if self._done == self._total or silent < (SHOW_EVERY_SECONDS if self._live else LOG_EVERY_SECONDS):
            return
        self._logged = time.monotonic()
        if self._live:
            self._show()
        else:
            self._console.print(self._line(), soft_wrap=True)

    def _show(self, over: bool = False) -> None:
        stopped = "stopped  " if over and self._done < self._total else ""
        self._bar.update(self._task, completed=self._done, rate=self._rate(), note=f"{stopped}{self._note()}")

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live:
            self._show(over=True)
        self._bar.stop()
        if not self._live:
            self._console.print(self._line(over=True), soft_wrap=True)

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = self._fresh / seconds
        return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"

    def _line(self, over: bool = False) -> str:
        seconds = time.monotonic() - self._started
        if not self._fresh:
            state = "nothing left to do" if self._done == self._total else "stopped"
            return f"{self._name:<9} {self._done}/{self._total}  {state}"
        left = (self._total - self._done) * seconds / self._fresh
        end = f"took {seconds:.1f} s" if not left else "stopped" if over else f"ETA {left:.0f} s"
        return f"{self._name:<9} {self._done}/{self._total}  {self._rate()}  {end}  {self._note()}".rstrip()
