"""What a stage leaves on record: `<stage>.meta.json`, and how a stale stage is told.

{"stage": "rewrite", "fingerprint": "5b1f...", "settings": {"author": {...}}, "finished": true,
 "entered": 246, "kept": 246, "rejected": {}, "failed": {}, "repaired": {"leak": 22},
 "spend": {"calls": 540, "input_tokens": 310022, "output_tokens": 9114, "cost": 0.87, ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from data.errors import UserError
from data.llm.prices import CURRENCY, Bill

DIGITS = 16  # of a digest on record


class Spend(BaseModel):
    """What calls took; `cost` counts those with a known price, `unpriced` the others."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    currency: str = CURRENCY


def spend_of(bill: Bill) -> Spend:
    """A bill as it stands in a meta file."""
    return Spend.model_validate(bill._asdict())


class StageMeta(BaseModel):
    """`<stage>.meta.json`: what the stage's rows were made with and what became of them."""

    stage: str
    fingerprint: str
    settings: dict[str, Any]
    finished: bool = False
    entered: int = 0
    kept: int = 0
    rejected: dict[str, int] = {}
    failed: dict[str, int] = {}
    repaired: dict[str, int] = {}  # kept rows that were mended on the way, by what was wrong with them
    seconds: float = 0.0
    fresh: int = 0  # rows made by the latest run of the stage; 0 when there was nothing left to do
    spend: Spend | None = None  # by the stage, over all its runs in this folder
    made_of: dict[str, str] = {}  # the stage before -> a digest of what it passed on, when this one finished


def digest(text: str) -> str:
    """16 hex digits of the SHA-256: enough to tell two inputs or settings apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def meta_path(folder: Path, name: str) -> Path:
    """Where a stage's meta file lies."""
    return folder / f"{name}.meta.json"


def read_meta(folder: Path, name: str) -> StageMeta | None:
    """What a stage left on record, or None if it never ran here."""
    path = meta_path(folder, name)
    if not path.exists():
        return None
    try:
        return StageMeta.model_validate_json(path.read_text())
    except ValueError as error:
        rows = f" and {name}.jsonl" if (folder / f"{name}.jsonl").exists() else ""  # a build has none
        raise UserError(f"{path} is damaged: delete it{rows} to run that stage again.") from error


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first settings that differ, as `section.key: before -> now`."""
    old, new = dict(_flat(before)), dict(_flat(now))
    changed = [
        f"{key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
        for key in sorted(old.keys() | new.keys())
        if str(old.get(key)) != str(new.get(key))
    ]
    return "; ".join(changed[:3])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
