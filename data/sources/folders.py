"""What a path stands for as tables: one file, a saved dataset, a folder of data files, captioned images.

A folder may be any of these:

    bench/metadata.csv, bench/0.png, ...           an image folder as `datasets` knows it
    bench/0.png, bench/0.txt, ...                  images with a caption beside each
    bench/train/data-00000-of-00001.arrow, ...     what `save_to_disk` left
    bench/data/test-00000.parquet, bench/a.jsonl   data files, of which the first kind that fits is read
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from data.errors import UserError
from data.sources.binary_tables import read_arrow, read_parquet, read_xlsx
from data.sources.columns import Raw
from data.sources.paths import SUFFIXES, lies_inside, trusted_root
from data.sources.tables import Openable, Table, encoding_of, read_csv, read_json, read_jsonl

READERS: dict[str, Callable[[Path], Table]] = {  # of a folder's files the earlier kind is read
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".xlsx": read_xlsx,
    ".arrow": read_arrow,
}
REFUSED = {
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z"), "unpack it first"),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".bin"), "opening it could run a stranger's code"),
    ".xls": "save it as .xlsx",
}
NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json",
           "croissant.json", "package.json"}  # fmt: skip
CALIBRATION = r"calibration(-\d+-of-\d+)?(\.\w+)?"  # the split's name, or its file's or folder's
LEFT_OUT = "the split calibration was left out, not being for evaluation: name it or its file to read it"
LONGEST_CAPTION = 1 << 20  # bytes


def read_table(path: Path) -> Table:
    """One file as a table, by its suffix."""
    suffix = path.suffix.lower()
    if suffix in REFUSED:
        raise UserError(f"{path} cannot be read as it is: {REFUSED[suffix]}.")
    if suffix not in READERS:
        raise UserError(f"{path} is of no known kind; known are {', '.join(READERS)}.")
    return READERS[suffix](path)


def table_groups(source: str) -> Iterator[list[Openable]]:
    """Groups of tables; the first group of which any can be used is the source."""
    path = Path(source)
    if path.is_file():
        yield [Openable(path.name, partial(read_table, path))]
    elif path.is_dir():
        yield from _folder_groups(path)
    else:
        raise UserError(f"There is no file or folder {source!r}.")


def _folder_groups(folder: Path) -> Iterator[list[Openable]]:
    files = _files(folder, (*READERS, *SUFFIXES, *REFUSED))
    saved = [path for path in files if path.name == "state.json"]
    shards = {shard for state in saved for shard in _shards(state)}
    arrows = [path for path in files if path.suffix == ".arrow" and path in shards]
    listed = [path for path in files if path.parent == folder and path.stem == "metadata"][:1]
    rest = [path for path in files if path.name.lower() not in NO_DATA and path not in (*arrows, *listed)]
    kinds = [[path for path in rest if path.suffix.lower() == suffix] for suffix in READERS]
    for group in (arrows, listed, *kinds):
        if group:
            yield without_calibration(_openables(folder, group))
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if images:
        yield [Openable("", partial(_captioned, folder, images))]
    if refused := [path for path in files if path.suffix.lower() in REFUSED]:
        yield _openables(folder, refused)  # each says why it is not read


def _openables(folder: Path, files: list[Path]) -> list[Openable]:
    return [Openable(path.relative_to(folder).as_posix(), partial(_inside, folder, path)) for path in files]


def _shards(state: Path) -> list[Path]:
    """The files that `save_to_disk` says it wrote: older ones stay beside them when a folder is saved to again."""
    try:
        named = json.loads(state.read_bytes())["_data_files"]
        return [state.parent / str(each["filename"]) for each in named]
    except (LookupError, ValueError, TypeError, RecursionError):
        return []


def without_calibration(group: list[Openable]) -> list[Openable]:
    """The group without a split `calibration`, as `data.build` makes it, unless that is all there is."""
    rest = [
        each
        for each in group
        if not any(re.fullmatch(CALIBRATION, part) for part in PurePosixPath(each.name).parts)
    ]
    if not rest or len(rest) == len(group):
        return group
    return [each._replace(open=partial(_remarked, each)) for each in rest]


def _remarked(openable: Openable) -> Table:
    table = openable.open()
    return table._replace(remarks=(*table.remarks, LEFT_OUT))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of these kinds anywhere in the folder, in a fixed order; hidden ones do not count."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _inside(folder: Path, path: Path) -> Table:
    """The table of a folder's file, named by where it lies in the folder."""
    if not lies_inside(path, trusted_root(folder)):
        raise UserError(f"{path} is a link out of {folder}: name the file itself.")
    name = path.relative_to(folder).with_suffix("").as_posix()
    return read_table(path)._replace(name=name)


def _captioned(folder: Path, images: list[Path]) -> Table:
    """Images and the text file beside each, as a caption: what the image shows, not what is asked."""
    captions = [_caption(folder, image.with_suffix(".txt")) for image in images]
    if not any(captions):
        raise UserError(
            f"{folder} holds images but no text: put metadata.csv or one .txt per image beside them."
        )
    rows: list[Raw] = [
        {
            "id": image.relative_to(folder).with_suffix("").as_posix(),
            "image": image.relative_to(folder).as_posix(),
            "caption": caption,
        }
        for image, caption in zip(images, captions, strict=True)
    ]
    remark = (
        "captions say what images show and there are no queries: --query-column caption reads them as such"
    )
    return Table(folder.name, folder, ("id", "image", "caption"), lambda: rows, (remark,), needs_query=False)


def _caption(folder: Path, path: Path) -> str | None:
    if not path.is_file() or not lies_inside(path, trusted_root(folder)):
        return None
    with open(path, encoding=encoding_of(path), errors="replace") as file:
        return file.read(LONGEST_CAPTION)
