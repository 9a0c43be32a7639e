"""What must outlive a process that waits for batches: which are open, with whose requests, and of which files.

Two notes in the response cache, for each server and model: {"batch_5b1f": ["9f1c...", ...]}, and the same by
file. A file is noted before a batch is made of it: the batch whose making was not heard of is found by it.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Protocol

from data.llm.dialect import Memory


class Notes(Memory, Protocol):
    """A memory that can also forget, and knows which requests are answered: the response cache."""

    def forget(self, name: str) -> None: ...

    def get(self, key: str) -> str | None: ...


class BatchNotes:
    """The batches of one server and model. Other chats may note theirs beside these."""

    def __init__(self, memory: Notes, url: str, model: str) -> None:
        self._memory = memory
        self._open_note, self._files_note = f"batches {url} {model}", f"batch files {url} {model}"
        # By batch, and by file of no known batch: the keys of its requests.
        self.open, self.files = (
            _key_sets(memory.recall(each)) for each in (self._open_note, self._files_note)
        )
        self._known = self.open.keys() | self.files.keys()  # beside those of other chats
        self._answered: dict[str, set[str]] = {}  # collected batch -> keys of its answers

    def held(self) -> set[str]:
        """The keys of all requests that are in an open batch."""
        return set().union(*self.open.values())

    def add_file(self, file: str, keys: set[str]) -> None:
        """A file is about to become a batch."""
        self.files[file] = keys
        self._known.add(file)
        self.write()

    def add_batch(self, batch: str, file: str) -> set[str]:
        """A batch was made of a file; the keys of its requests."""
        keys = self.open[batch] = self.files.pop(file)
        self._known.add(batch)
        self.write()
        return keys

    def end(self, batch: str, answered: set[str]) -> None:
        """A batch was collected. It stays noted until the cache has its answers: whoever asks may be stopped."""
        del self.open[batch]
        self._answered[batch] = answered

    def write(self) -> None:
        """Note how things stand; what another chat with the same server and model has noted meanwhile stays."""
        waiting = {batch: self.unstored(keys) for batch, keys in self._answered.items()}
        self._answered = {batch: keys for batch, keys in waiting.items() if keys}
        self._note(self._open_note, self.open | self._answered)
        self._note(self._files_note, self.files)

    def unstored(self, keys: Set[str]) -> set[str]:
        """Those of the keys whose answer is not in the cache."""
        return {key for key in keys if self._memory.get(key) is None}

    def _note(self, name: str, own: dict[str, set[str]]) -> None:
        noted = _key_sets(self._memory.recall(name))
        sets = {each: keys for each, keys in noted.items() if each not in self._known} | own
        if sets:
            self._memory.remember(name, json.dumps({each: sorted(keys) for each, keys in sets.items()}))
        else:
            self._memory.forget(name)


def _key_sets(note: str | None) -> dict[str, set[str]]:
    return {identity: set(keys) for identity, keys in json.loads(note or "{}").items()}
