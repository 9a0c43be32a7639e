"""Whether the rows of a run's stages are all there, and made of the rows before them as they are now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.rows import read_rows
from data.stage_meta import DIGITS, StageMeta, read_meta


def passed_on(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """By stage that has rows here, a digest of those it passes on: that neither failed nor were rejected."""
    paths = {name: folder / f"{name}.jsonl" for name in names}
    return {name: _digest_of(path) for name, path in paths.items() if path.exists()}


def is_finished(folder: Path, name: str) -> bool:
    """Whether a stage's rows are all there, to be worked on."""
    return _finished(folder, name) is not None


def lacking(folder: Path, names: Sequence[str]) -> str | None:
    """What must be run before anything is made of these stages' rows, such as "'draw' first"; None: nothing.

    `names` in order, from where the run begins. Rows of an earlier version, which do not say what they were
    made of, pass for current.
    """
    metas: list[StageMeta] = []
    for name in names:
        meta = _finished(folder, name)
        if meta is None:
            return f"{name!r} first"
        metas.append(meta)
    passed = passed_on(folder, names[:-1])
    used = {earlier for meta in metas for earlier in meta.made_of}
    for place, meta in enumerate(metas):
        changed = any(passed.get(earlier) != digest for earlier, digest in meta.made_of.items())
        passed_by = place > 0 and bool(meta.made_of) and names[place - 1] not in used
        if changed or passed_by:
            return f"{meta.stage!r} again, for what comes before it has changed since"
    return None


def _finished(folder: Path, name: str) -> StageMeta | None:
    """A stage's meta, where its rows are all there."""
    meta = read_meta(folder, name)
    return meta if meta is not None and meta.finished and (folder / f"{name}.jsonl").exists() else None


def _digest_of(path: Path) -> str:
    """Of what its rows say; what each was made of does not matter to those who read them."""
    whole = hashlib.sha256()
    for row in read_rows(path):
        if "failed" not in row and not row.get("rejected"):
            row.pop("of", None)
            whole.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return whole.hexdigest()[:DIGITS]
