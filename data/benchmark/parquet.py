"""`data/SPLIT-00000-of-0000N.parquet`: a split as `datasets` reads it, typed, the pictures inside.

{"instruction_id": 0, "image": {"bytes": b"...", "path": "imgs/0.png"}, "instruction": "...", "category": 2, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.benchmark.layout import Entry, VlsbenchRow
from data.errors import missing_package

ROWS_PER_GROUP = 64  # pictures held in memory at a time while a Parquet file is written
SHARD_BYTES = 400_000_000  # of pictures per Parquet file


def write_parquet(
    folder: Path, split: str, entries: Sequence[Entry], labels: Mapping[str, Sequence[str]]
) -> list[Path]:
    """`data/SPLIT-00000-of-0000N.parquet` with typed features and the pictures' bytes inside."""
    try:
        import pyarrow.parquet as pq
        from datasets import ClassLabel, Features, Image, Value
    except ImportError as error:
        raise missing_package("datasets", "build") from error
    columns: dict[str, object] = {"instruction_id": Value("int64"), "image": Image()}
    columns |= {name: Value("string") for name in VlsbenchRow.__annotations__ if name != "instruction_id"}
    columns |= {name: ClassLabel(names=list(names)) for name, names in labels.items()}
    schema = Features(columns).arrow_schema
    shards, paths = _shards(entries), []
    (folder / "data").mkdir(exist_ok=True)
    for number, shard in enumerate(shards):
        paths.append(folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
        with pq.ParquetWriter(paths[-1], schema) as writer:
            for start in range(0, len(shard), ROWS_PER_GROUP):
                writer.write_table(_table(shard[start : start + ROWS_PER_GROUP], labels, schema))
    return paths


def _shards(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The rows in order, in parts of at most SHARD_BYTES of pictures."""
    shards: list[list[Entry]] = [[]]
    used = 0
    for entry in entries:
        size = entry.picture.stat().st_size
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(entry)
        used += size
    return shards


def _table(entries: Sequence[Entry], labels: Mapping[str, Sequence[str]], schema: Any) -> Any:
    """A group of rows as an Arrow table."""
    import pyarrow as pa

    numbers = {column: {name: at for at, name in enumerate(names)} for column, names in labels.items()}
    rows = [
        {**entry.row, "image": {"bytes": entry.picture.read_bytes(), "path": entry.row["image_path"]}}
        | {column: known[entry.row[column]] for column, known in numbers.items()}  # type: ignore[literal-required]
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, schema=schema)
