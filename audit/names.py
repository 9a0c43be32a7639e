"""What audited sources are called: by their user, by the benchmark they are, or by their file or folder.

parse_given("ours=runs/demo/benchmark")                 -> Given("ours", "", "runs/demo/benchmark")
parse_given("figstep:tiny=FigStep")                     -> Given("", "figstep:tiny", "FigStep")
parse_given("theirs=vlsbench=hf:owner/name")            -> Given("theirs", "vlsbench", "hf:owner/name")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from audit.benchmarks import BENCHMARKS
from data.errors import unknown
from data.sources.columns import clean
from data.sources.reader import Source

HUB = "hf:"
GENERIC_NAMES = ("data", "test", "train", "val", "validation", "dataset", "metadata", "index")
BUILT = {"benchmark": "", "benchmark-extended": "-extended"}  # a run's folders that `data.build` writes
BUILT_FILES = ("provenance.jsonl", "checksums.sha256")  # that no other benchmark has beside its data
DEPTH = 2  # folders, at most, between a file of such a benchmark and its own folder


class Given(NamedTuple):
    """A source as the command line has it."""

    label: str  # what the user calls it; "" leaves that to us
    benchmark: str  # whose layout it has, with a variant after a colon; "" if that is to be guessed
    path: str


def parse_given(given: str) -> Given:
    """What stands before `=` is a benchmark's name or a label, or belongs to a path that has `=` in it.

    UserError for a benchmark's variant where there is no such benchmark: a label has no colon.
    """
    name, rest = _before(given)
    if not name:
        return Given("", "", given)
    if _is_benchmark(name):
        return Given("", name, rest)
    inner, path = _before(rest)
    if not _is_benchmark(inner):
        inner, path = "", rest
    if not (inner or path.startswith(HUB) or os.path.exists(path)):  # noqa: PTH110  # of any text, however long
        return Given("", "", given)
    if ":" in name:
        raise unknown("benchmark", name.partition(":")[0], BENCHMARKS)
    return Given(clean(name), inner, path)


def _before(given: str) -> tuple[str, str]:
    """What stands before the first `=` and after it; nothing before where all of it is a path."""
    name, _, rest = given.partition("=")
    if not rest or "/" in name or os.sep in name or os.path.exists(given):  # noqa: PTH110
        return "", given
    return name.strip(), rest


def _is_benchmark(name: str) -> bool:
    return name.partition(":")[0] in BENCHMARKS


def source_names(sources: Sequence[Source], labels: Sequence[str] = ()) -> list[str]:
    """A short, distinct name per source: its label, else its own. A name that is taken gets a number.

    Labels go first: what the user called a source is not changed for another's sake.
    """
    given = [*labels, *[""] * len(sources)][: len(sources)]
    names = [""] * len(sources)
    for place in sorted(range(len(sources)), key=lambda place: not given[place]):
        name = given[place] or _own_name(sources[place])
        more = (f"{name}-{number}" for number in count(2))
        names[place] = next(each for each in chain([name], more) if each not in names)
    return names


def _own_name(source: Source) -> str:
    """The benchmark's, the file's, or the folder's if that says more.

    One that was built here has VLSBench's layout and is another benchmark: it is called after its run.
    """
    path = Path(source.name.removeprefix(HUB))
    hub = source.name.startswith(HUB)
    built = None if hub else _built(path.resolve())
    if source.benchmark and not built:
        return source.benchmark.removesuffix(":all")
    stem = path.name if hub or path.is_dir() else path.stem
    general = stem.lower() in GENERIC_NAMES
    if built and (general or path.is_dir()):
        return built
    return (path.resolve().parent.name if general else "") or stem or "benchmark"


def _built(path: Path) -> str | None:
    """The name of the benchmark built here that a file or folder is, lies in or holds; None for any other."""
    for folder in (path, *path.parents[:DEPTH], *(path / name for name in BUILT)):
        if all((folder / name).is_file() for name in BUILT_FILES):
            return f"{folder.parent.name}{BUILT[folder.name]}" if folder.name in BUILT else folder.name
    return None
