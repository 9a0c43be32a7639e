"""`provenance.jsonl`: for every row of ours where it comes from, how it was made, checked and by whom reviewed.

{"instruction_id": 0, "image_path": "imgs/0.png", "sha256": "9f2c...", "split": "test", "id": "5f0c6a1b9d3e",
 "element": "...", "harmful_query": "...", "drawing": {...}, "audit": {...}, "checks": [...],
 "made_by": {"rewrite": {"author.model": "m", "prompt rewrite": "0123456789abcdef"}},
 "reviews": [{"reviewer": "reviewer-1", "action": "approve", "at": "2026-05-04T12:30:05Z"}]}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from data.benchmark.layout import Entry
from data.records import Pair
from data.reviews import Review, reviewer_numbers
from data.rows import atomic
from data.stage_meta import StageMeta

CHECKSUMS = "checksums.sha256"
DROPPINGS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave wherever they look
TOLD = ("model", "generator", "embedder", "temperature", "prompt")  # settings that say who did what, and how


def write_provenance(
    path: Path, splits: Mapping[str, Sequence[Entry]], metas: Sequence[StageMeta], reviews: Sequence[Review]
) -> None:
    """One line per row of ours, in the order of the splits; rows of another benchmark name that."""
    made_by = {meta.stage: dict(_told(meta.settings)) for meta in metas}
    names = {name: f"reviewer-{number}" for name, number in reviewer_numbers(reviews).items()}
    of_pair: dict[str, list[dict[str, object]]] = {}
    for review in reviews:
        said = review.model_dump(mode="json", exclude_defaults=True, exclude={"pair", "was"})
        said["reviewer"] = names.get(review.reviewer, review.reviewer)
        of_pair.setdefault(review.pair, []).append(said)
    with atomic(path) as file:
        for split, entries in splits.items():
            for entry in entries:
                row = _row(split, entry, made_by, of_pair.get(entry.pair.id if entry.pair else "", []))
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _row(
    split: str, entry: Entry, made_by: dict[str, dict[str, object]], reviews: list[dict[str, object]]
) -> dict[str, object]:
    where: dict[str, object] = {
        "instruction_id": entry.row["instruction_id"],
        "image_path": entry.row["image_path"],
        "sha256": sha256(entry.picture),
        "split": split,
    }
    if entry.pair is None:
        return where | {"from": "the benchmark that was extended, unchanged"}
    return where | _lineage(entry.pair) | {"made_by": made_by, "reviews": reviews}


def _lineage(pair: Pair) -> dict[str, object]:
    """The pair's own record, less what stands in the row anyway."""
    in_row = {
        "instruction",
        "category",
        "sub_category",
        "source",
        "image_description",
        "safety_reason",
        "image_path",
    }
    lineage: dict[str, object] = pair.model_dump(mode="json", exclude_defaults=True, exclude=in_row)
    return lineage


def _told(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Settings that say which model and prompt were at work, flat."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _told(value, f"{prefix}{key}.")
        elif key.startswith(TOLD):
            yield f"{prefix}{key}", without_folders(value) if isinstance(value, str) else value


def without_folders(name: str) -> str:
    """A model's name as it is published: `st:/home/ada/models/mine` is `st:mine`, for a machine's paths are its own."""
    return re.sub(r"(^|[:\s])([~/].*)$", lambda found: f"{found[1]}{PurePath(found[2]).name}", name)


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """A line per file of the folder, as `sha256sum --check` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))


def is_whole(folder: Path) -> bool:
    """Whether all that a build wrote into the folder is still there."""
    return (folder / CHECKSUMS).is_file() and all((folder / name).is_file() for name in _listed(folder))


def strangers(folder: Path) -> list[str]:
    """The files in the folder that no build wrote as they are: not on its list of checksums, or edited since."""
    listed = _listed(folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    ours = listed.keys() | ({CHECKSUMS} if listed else set())
    others = {name for name in there - ours if name.rpartition("/")[2] not in DROPPINGS}
    return sorted(others | {name for name in there & listed.keys() if _is_edited(folder, name, listed[name])})


def _listed(folder: Path) -> dict[str, str]:
    """The names in the folder's checksums, each with its digest."""
    path = folder / CHECKSUMS
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _is_edited(folder: Path, name: str, digest: str) -> bool:
    """The checksums are written last: only what is newer can have been edited, and is looked at."""
    path = folder / name
    newer = path.lstat().st_mtime_ns > (folder / CHECKSUMS).stat().st_mtime_ns
    return newer and not (path.is_file() and sha256(path) == digest)
