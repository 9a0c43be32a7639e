"""Anyone's image-text benchmark as typed rows, whatever its format and column names.

    >>> source = read_source("bench.csv")
    >>> source.columns.query, source.rows[0]
    (("question",), SourceRow(id="7", query="...", image_description="A kite over a beach",
                              image="/data/bench/imgs/7.png", image_key="imgs/7.png", category="Outdoors"))

No row is dropped without a note, and no row reaches a file outside of the benchmark's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data.errors import UserError, missing_package
from data.sources.binary_tables import CORRUPT, batch_rows, with_classes
from data.sources.columns import Columns, Raw, choose_columns, shown
from data.sources.folders import table_groups, without_calibration
from data.sources.paths import trusted_root
from data.sources.source_rows import Note, Notes, Part, Source, SourceRow, build_source
from data.sources.tables import Openable, Table

__all__ = ["Note", "Source", "SourceRow", "read_hub", "read_source"]

IMAGE_FOLDERS = (".", "images", "imgs")  # where images lie beside the file that names them
HUB_ID = r"hf:(?P<id>[\w.-]+/[\w.-]+)(?:/(?P<config>[^:/]+))?(?::(?P<split>[\w.-]+))?"


def read_source(
    path: str,
    *,
    query_column: str | None = None,
    description_column: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    category_column: str | None = None,
    safe_column: str | None = None,
    data_root: Path | None = None,
    unpack_to: Path | None = None,
) -> Source:
    """Read a file, a folder or a dataset of the Hub (`hf:owner/name`); UserError where that cannot be done.

    Images are found relative to the file that names them, or to `data_root` where that is given, and never
    outside of it; by default it is the folder that was given or that holds the file. Embedded images are
    written into `unpack_to` under names made of their content; without it they stay unread and a note says so.
    """
    chosen = {
        "query": query_column,
        "image_description": description_column,
        "image": image_column,
        "id": id_column,
        "category": category_column,
        "is_safe": safe_column,
    }
    with_notes = Notes()
    try:
        parts = _usable_parts(path, chosen, with_notes)
        root = data_root or _root_of(path, parts)
        return build_source(
            path, parts, root, IMAGE_FOLDERS, unpack_to, with_notes, apart=data_root is not None
        )
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def _root_of(path: str, parts: list[Part]) -> Path:
    folder = Path(path)
    return trusted_root(folder if folder.is_dir() else parts[0].table.folder)


def _usable_parts(path: str, chosen: Mapping[str, str | None], notes: Notes) -> list[Part]:
    """The tables of the first group in which any has a query; the others are noted, or the error raised."""
    first_error: UserError | None = None
    groups = iter([read_hub(path)]) if path.startswith("hf:") else table_groups(path)
    for group in groups:
        parts = []
        for name, open_table in group:
            try:
                table = open_table()
                parts.append(Part(table, _columns_of(table, chosen, name or path)))
            except UserError as error:
                first_error = first_error or error
                notes.add(f"left out: {error}")
        if parts:
            unread = [name for group in groups for name, _ in group if name]
            if unread:
                notes.add(f"not read beside the data: {shown(unread)}")
            return parts
    raise first_error or UserError(f"{path} holds nothing that can be read as a benchmark.")


def _columns_of(table: Table, chosen: Mapping[str, str | None], path: str) -> Columns:
    names = table.columns if table.needs_query else (*table.columns, "query")
    if not names:
        raise UserError(f"{path} holds no rows.")
    return choose_columns(names, chosen, path)


def read_hub(source: str) -> list[Openable]:
    """The splits of a dataset of the Hub, given as `hf:owner/name[/config][:split]`.

    A split `calibration` beside others is not among them unless it is named.
    """
    match = re.fullmatch(HUB_ID, source)
    if match is None:
        raise UserError(f"{source!r} is no dataset of the Hub: write hf:owner/name[/config][:split].")
    try:
        import datasets
        import huggingface_hub as hub
    except ImportError as error:
        raise missing_package("datasets", "build") from error
    try:
        loaded = datasets.load_dataset(match["id"], match["config"], split=match["split"])
    except (*CORRUPT, OSError, datasets.exceptions.DatasetsError) as error:
        why = " ".join(str(error).split())[:240] or type(error).__name__
        raise UserError(f"Cannot load {match['id']} from the Hub ({why}).") from error
    splits = {match["split"]: loaded} if match["split"] else loaded
    folder = Path(hub.constants.HF_HUB_CACHE)  # image paths may point into the download, nowhere else
    return without_calibration(
        [Openable(name, partial(_split_table, name, split, folder)) for name, split in splits.items()]
    )


def _split_table(name: str, split: Any, folder: Path) -> Table:
    """One split, its images left as bytes and paths: nothing of a stranger's is decoded here."""
    import datasets

    classes = {
        column: feature.names
        for column, feature in split.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }

    def rows() -> Iterator[Raw]:
        for batch in split.with_format("arrow").iter(batch_rows(split.features.arrow_schema)):
            yield from with_classes(batch.to_pylist(), classes)

    return Table(name, folder, tuple(split.column_names), rows)
