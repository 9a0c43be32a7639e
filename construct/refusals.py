"""What is refused before a run throws away, writes or pays for anything: missing rows, rows of other settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from construct.stages import Step
from construct.workshop import Workshop
from data.errors import UserError
from data.stage import Stage, read_meta
from data.stage_chain import lacking
from data.stage_meta import difference


def need(name: str, before: Sequence[str], folder: Path, redo: Sequence[str] = ()) -> None:
    """Raise `UserError` unless all stages before one are finished, each made of those before it, and stay so."""
    thrown_away = next((f"{each!r} first" for each in before if each in redo), None)
    if wanted := thrown_away or lacking(folder, before):
        raise UserError(f"Stage {name!r} needs {wanted}: run it, or --stage all.")


def refuse_stale(steps: Sequence[Step], shop: Workshop) -> None:
    """Raise `UserError`, in one sentence for all of them, where steps left rows of other settings."""
    stale: dict[str, str] = {}
    for step in steps:
        stale |= _differences(step.stage(shop), shop.folder)
    if not stale:
        return
    one = len(stale) == 1
    raise UserError(
        f"{'Stage' if one else 'Stages'} {', '.join(map(repr, stale))} in {shop.folder} "
        f"{'was' if one else 'were'} made with other settings ({'; '.join(dict.fromkeys(stale.values()))}): "
        f"name another --run folder, or add {' '.join(f'--redo {name}' for name in stale)} to make "
        f"{'it' if one else 'them'} again here."
    )


def _differences(stage: Stage[Any, Any], folder: Path) -> dict[str, str]:
    """By the stage's name, how its rows in the folder were made otherwise; empty where they were not."""
    meta = read_meta(folder, stage.name)
    if meta is None:
        rows = folder / f"{stage.name}.jsonl"
        return {stage.name: f"{rows.name} is without its meta file"} if rows.exists() else {}
    stale = meta.fingerprint != stage.fingerprint
    return {stage.name: difference(meta.settings, stage.settings)} if stale else {}
