"""How a benchmark is built: the options of a build, and what a run remembers of its last one.

build.meta.json: {"stage": "build", "settings": {"options": {"reviewed_only": true, "out": "mine", ...}, ...}, ...}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote

from pydantic import TypeAdapter, ValidationError

from data.errors import UserError
from data.rows import write_json
from data.stage_meta import meta_path, read_meta

BUILD = "build"
FOLDER = "benchmark"


@dataclass(frozen=True)
class Options:
    """What a build depends on, besides the run."""

    calibration: bool = False
    reviewed_only: bool = False
    extend: str = ""  # the folder of another benchmark
    date: str = ""  # ISO; empty: today, or SOURCE_DATE_EPOCH
    name: str = ""  # empty: the run's own
    license: str = ""
    out: str = ""  # empty: RUN/benchmark
    taxonomy: str = ""  # a file that orders the classes; empty: VLSBench's


def anchored(options: Options, run: Path) -> Options:
    """The same, its paths as they hold in any working directory: within the run from there, else absolute."""
    extend, out, taxonomy = (_anchor(each, run) for each in (options.extend, options.out, options.taxonomy))
    return replace(options, extend=extend, out=out, taxonomy=taxonomy)


def _anchor(typed: str, run: Path) -> str:
    if not typed:
        return ""
    try:
        path = Path(typed).parent.resolve() / Path(typed).name  # a link stays one
        path.exists()
    except OSError as error:  # no file system could have a path like this
        raise UserError(f"There can be no file or folder {typed[:80]!r}: name another.") from error
    return str(path.relative_to(run.resolve()) if path.is_relative_to(run.resolve()) else path)


def target_of(run: Path, options: Options) -> Path:
    """The folder to write; options as `anchored` makes them."""
    if options.out:
        return run / options.out
    return run / (f"{FOLDER}-extended" if options.extend else FOLDER)


def last_options(run: Path) -> Options:
    """Those of the run's last build, its paths anchored."""
    known = read_meta(run, BUILD)
    if known is None or "options" not in known.settings:
        return Options()
    try:
        return TypeAdapter(Options).validate_python(known.settings["options"])
    except ValidationError as error:
        raise UserError(f"{meta_path(run, BUILD)} is damaged: delete it, and build again.") from error


def forget_build(run: Path) -> None:
    """Have the next build made anew, by the options of the last one."""
    if (known := read_meta(run, BUILD)) is not None:
        write_json(meta_path(run, BUILD), known.model_copy(update={"fingerprint": ""}).model_dump())


def flags(options: Options) -> dict[str, str]:
    """Of each option that is not left as it is by default, what one types: {"date": "--date 2026-01-31"}."""
    said = {name: value for name, value in asdict(options).items() if value}
    return {
        name: f"--{name.replace('_', '-')}{'' if value is True else f' {quote(value)}'}"
        for name, value in said.items()
    }
