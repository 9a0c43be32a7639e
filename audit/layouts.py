"""How a benchmark lies on disk, and how to read any that is described so.

Layout(
    variants={"all": Variant(("holisafe_bench.json",))},
    marks={"query", "image", "type", "image_safe"},
    columns=columns(id="id", query="query", image="image", category="category"),
    images=("images", "."),
)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.errors import UserError
from data.sources.columns import Columns, Raw
from data.sources.folders import read_table
from data.sources.paths import lies_inside, trusted_root
from data.sources.reader import read_hub
from data.sources.source_rows import Part, Source, build_source
from data.sources.tables import Table, encoding_of, load_json


def columns(**names: str) -> Columns:
    """Columns by field; "a|b" is a, or b for a row that has no a."""
    return Columns.model_validate({field: tuple(name.split("|")) for field, name in names.items()})


SAME = columns(  # of rows that an `Expand` made
    id="id",
    query="query",
    image_description="image_description",
    image="image",
    category="category",
    sub_category="sub_category",
    is_safe="is_safe",
)


class At(NamedTuple):
    """Where a record was found: what its row may depend on beside itself."""

    variant: str
    file: Path
    base: Path  # the benchmark's folder


Expand = Callable[[Raw, At], Iterable[Raw]]


class Variant(NamedTuple):
    """One way to read a benchmark: patterns of its files, and columns that differ from the layout's."""

    files: tuple[str, ...]  # relative to the benchmark's folder; the first with a match counts
    columns: Mapping[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Layout:
    """A benchmark's files, columns and image folders; the first variant is the default."""

    variants: Mapping[str, Variant]
    marks: AbstractSet[str]  # columns that no other layout has together
    columns: Columns = SAME
    images: tuple[str, ...] = (".", "images", "imgs")  # relative to the benchmark's folder
    expand: Expand | None = None  # one record -> its rows, where columns alone cannot say it
    lists: tuple[str, ...] = ()  # the JSON lists to read, where a file has several


def locate(place: Path, patterns: Iterable[str]) -> list[tuple[Path, Path]]:
    """(benchmark's folder, file) for each file of the first pattern that matches in or just below `place`.

    A file is taken for what it was said to be; a folder inside the benchmark will do too.
    """
    patterns = tuple(patterns)
    if not place.exists():
        return []
    if place.is_file():
        return [(base_of(place, patterns[0]), place)]
    for pattern in patterns:
        parts = pattern.split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for spelling in (tails[0], f"*/{tails[0]}", *tails[1:]):
            files = sorted(path for path in place.glob(spelling) if lies_inside(path, trusted_root(place)))
            if files:
                return [(base_of(path, pattern), path) for path in files]
    return []


def likeliest_variant(layout: Layout, place: Path) -> str:
    """The variant whose file's name and folders are most like those of what lies at `place`; of equals the first."""
    likeness = {
        name: max(
            (_parts_alike(file, each) for _, file in locate(place, variant.files) for each in variant.files),
            default=0,
        )
        for name, variant in layout.variants.items()
    }
    return max(likeness, key=likeness.__getitem__)


def _parts_alike(file: Path, pattern: str) -> int:
    """How many names of a path fit the pattern's, from the last one up."""
    count = 0
    for name, wanted in zip(reversed(file.absolute().parts), reversed(pattern.split("/")), strict=False):
        if not fnmatch(name, wanted):
            break
        count += 1
    return count


def base_of(file: Path, pattern: str) -> Path:
    """The folder that the pattern starts from, as far up as the folders' names agree with it."""
    base = file.absolute().parent
    for name in reversed(pattern.split("/")[:-1]):
        if not fnmatch(base.name, name):
            break
        base = base.parent
    return base


def open_table(layout: Layout, file: Path) -> Table:
    """A file of the benchmark as its authors' records."""
    return _lists(file, layout.lists) if layout.lists else read_table(file)


def _lists(path: Path, names: tuple[str, ...]) -> Table:
    """Several JSON lists of one file; each record is told which it is from and how many came before."""
    value = load_json(path, encoding_of(path))
    lists = value if isinstance(value, dict) else {}
    present = [name for name in names if isinstance(lists.get(name), list)]
    if not present:
        raise UserError(f"{path} has no list called {' or '.join(names)}.")
    found = [(name, number, record) for name in present for number, record in enumerate(lists[name])]
    rows: list[Raw] = [
        {"list": name, "number": number, **record}
        for name, number, record in found
        if isinstance(record, dict)
    ]
    lost = len(found) - len(rows)
    remarks = (f"{lost} entries of {path.name} are not rows and were left out",) if lost else ()
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(path.stem, path.parent, columns, lambda: rows, remarks)


def read_layout(
    layout: Layout, variant: str, path: str, data_root: Path | None, unpack_to: Path | None
) -> Source:
    """The rows of one variant of a benchmark; UserError where `path` does not hold it."""
    tables = list(_tables(layout, variant, path))
    chosen = layout.columns.replace(**layout.variants[variant].columns)
    parts = [Part(table, chosen) for table in tables]
    root = data_root or _root_of(Path(path), tables[0].folder)
    return build_source(path, parts, root, layout.images, unpack_to, apart=data_root is not None)


def _tables(layout: Layout, variant: str, path: str) -> Iterator[Table]:
    if path.startswith("hf:"):
        default = next(iter(layout.variants.values()))
        if layout.variants[variant].files != default.files:
            raise UserError(
                f"{variant!r} is told by its file, which {path} does not name: download it and give its folder."
            )
        for split in read_hub(path):
            table = split.open()
            _refuse_strangers(layout, path, table)
            yield _expanded(table, layout, At(variant, Path(table.name), table.folder))
        return
    if not Path(path).exists():
        raise UserError(f"There is no file or folder {path!r}.")
    patterns = layout.variants[variant].files
    found = locate(Path(path), patterns)
    if not found:
        raise UserError(f"{path} is not laid out as this benchmark: it has no {' or '.join(patterns)}.")
    for base, file in found:
        table = open_table(layout, file)
        _refuse_strangers(layout, file, table)
        name = file.absolute().relative_to(base).with_suffix("").as_posix()
        yield _expanded(table._replace(name=name, folder=base), layout, At(variant, file, base))


def _refuse_strangers(layout: Layout, place: Path | str, table: Table) -> None:
    missing = sorted(layout.marks - set(table.columns))
    if len(missing) > 1:  # one may be: variants differ
        raise UserError(f"{place} is not of this benchmark: it has no {', '.join(missing)}.")


def _expanded(table: Table, layout: Layout, at: At) -> Table:
    """The table with the authors' records turned into rows."""
    if layout.expand is None:
        return table
    return table._replace(rows=partial(_expand_all, table, layout, at))


def _expand_all(table: Table, layout: Layout, at: At) -> Iterable[Raw]:
    if layout.expand is not None:
        for record in table.rows():
            yield from layout.expand(record, at)


def _root_of(given: Path, base: Path) -> Path:
    """The folder that was given, or the benchmark's own where that is the larger."""
    given = given.absolute()
    return trusted_root(given if given.is_dir() and base.is_relative_to(given) else base)
