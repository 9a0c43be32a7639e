"""How the requests of batches are phrased: what their results teach of a server's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

from data.llm.batch_results import Outcome
from data.llm.chat import Completion
from data.llm.dialect import PHRASING, Dialect, Memory, remembered, simpler
from data.llm.faults import Fault


class BatchPhrasing:
    """The dialect that requests go out in. The first batch with an answer in it proves its own."""

    def __init__(self, memory: Memory, note: str, start: Dialect) -> None:
        self._memory, self._note = memory, note
        self.dialect = self._loaded = remembered(memory, note) or start
        self._spoken: dict[str, Dialect] = {}  # the batches of this process -> how their requests are phrased
        self._refused: list[Dialect] = []  # dialects in which not one request of a batch was answered
        self._proven = False

    def sent(self, batch: str) -> None:
        """The requests of a batch went out as requests do now."""
        self._spoken[batch] = self.dialect

    def learn(self, batch: str, results: Mapping[str, Outcome]) -> dict[str, Fault]:
        """Settle how requests are phrased; the faults of those that go out again in other words, now passing."""
        spoken = self._spoken.get(batch, self._loaded)
        if not self._proven and any(isinstance(each, Completion) for each in results.values()):
            self._proven, self._refused = True, []
            self._speak(spoken)
        complaints = {key: each for key, each in results.items() if _is_about_phrasing(each)}
        if not complaints or (self._proven and spoken == self.dialect):
            return {}
        if spoken == self.dialect:
            self._refused.append(spoken)
            complaint = next(iter(complaints.values())).detail
            self._speak(simpler(spoken, complaint, self._refused) or self._refused[0])
        if self.dialect in self._refused:
            return {}
        return {key: replace(each, passing=True) for key, each in complaints.items()}

    def _speak(self, dialect: Dialect) -> None:
        """Phrase requests so from here on, also in the next process."""
        if dialect != self.dialect:
            self.dialect = dialect
            self._memory.remember(self._note, dialect.model_dump_json())


def _is_about_phrasing(outcome: Outcome) -> TypeGuard[Fault]:
    """Whether a line was refused for how it was phrased, which every line of the batch shares."""
    return (
        isinstance(outcome, Fault)
        and outcome.reason in ("bad_request", "server_error")
        and PHRASING.search(outcome.detail) is not None
    )
