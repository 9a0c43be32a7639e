"""`python -m filter.run RUN`: the filter alone, with the run's settings or with others."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError, run_cli

if TYPE_CHECKING:
    from data.records import Pair
    from data.run_folder import Plan
    from data.stage import Stage
    from filter.settings import BalanceSettings, FilterSettings

ABOUT = """Filters the pairs of a run: gates, near-duplicates, balance. Without options it goes by the settings the
run was filtered with last, at first its profile's; an option changes that one from now on. The run's rows change
when all is done, and `python -m data.build RUN` builds what they say."""
CHANGES = {  # option -> (section, type, what it says)
    "max_leakage": ("filter", float, "highest leakage that passes, 0 to 1"),
    "max_text_harm": ("filter", float, "highest harm of the text alone that passes, 0 to 1"),
    "near_duplicate": ("filter", float, "cosine from which two texts say the same"),
    "near_duplicate_image": ("filter", float, "share of a picture's fingerprint that may differ"),
    "read_pictures": ("filter", str, "OCR: auto, on or off"),
    "size": ("balance", int, "rows the benchmark should hold"),
    "at_least": ("balance", int, "rows per sub-category whatever its share"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m filter.run", description=ABOUT)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, audited at least")
    for option, (_, kind, says) in CHANGES.items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=kind, help=says)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    from data.records import Pair
    from data.run_folder import locked, read_plan
    from data.stage import read_stage
    from data.stage_chain import lacking

    folder: Path = arguments.run
    plan = read_plan(folder)
    before = plan.before("filter")
    with locked(folder, "RUN"):
        if wanted := lacking(folder, plan.stages[: plan.stages.index("filter")]):
            raise UserError(f"The filter needs {wanted}: run construct.run on {folder}.")
        settings, balance = _settings(folder, arguments)
        pairs = [pair for pair in read_stage(folder, before, Pair) if pair.rejected is None]
        _filter(_stage(folder, plan, settings, balance), pairs, folder)
    _conclude(folder)
    return 0


def _filter(stage: Stage[Pair, Pair], pairs: list[Pair], folder: Path) -> None:
    """Bring the filter's rows up to date; by other settings aside, so that the old stay until the new are whole."""
    import asyncio
    from shutil import rmtree
    from tempfile import TemporaryDirectory

    from data.stage import read_meta, run_stage

    for left in folder.glob(".filter.*"):  # by a kill
        rmtree(left)
    known = read_meta(folder, "filter")
    if known is not None and known.fingerprint == stage.fingerprint:
        asyncio.run(run_stage(stage, pairs, folder))
        return
    with TemporaryDirectory(prefix=".filter.", dir=folder) as aside:
        asyncio.run(run_stage(stage, pairs, Path(aside)))
        # No kill may leave rows beside the settings of others: rows without a meta file count as none.
        (folder / "filter.meta.json").unlink(missing_ok=True)
        for name in ("filter.jsonl", "filter.meta.json"):
            (Path(aside) / name).replace(folder / name)


def _settings(folder: Path, arguments: argparse.Namespace) -> tuple[FilterSettings, BalanceSettings]:
    """Those of the run, changed by the options."""
    from pydantic import ValidationError

    from data.stage import read_meta
    from filter.settings import BalanceSettings, FilterSettings

    meta = read_meta(folder, "filter")
    if meta is None and arguments.size is None:
        raise UserError(
            f"{folder} has not been filtered yet, and only its profile says how: finish it by construct.run, or give "
            "--size and whichever limits are not the defaults."
        )
    known = meta.settings if meta else {"filter": {}, "balance": {}}
    changed: dict[str, dict[str, object]] = {"filter": {}, "balance": {}}
    for option, (section, _, _) in CHANGES.items():
        if (value := getattr(arguments, option)) is not None:
            changed[section][option] = value
    try:
        return (
            FilterSettings.model_validate(known["filter"] | changed["filter"]),
            BalanceSettings.model_validate(known["balance"] | changed["balance"]),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option}: {first['msg']}.") from error


def _stage(folder: Path, plan: Plan, settings: FilterSettings, balance: BalanceSettings) -> Stage[Pair, Pair]:
    """The same stage as construct.run's: rows made by one are the other's."""
    from data.embedders import load_embedder
    from data.stage import Stage, read_meta
    from data.stage_chain import passed_on
    from data.taxonomy import load_taxonomy, taxonomy_digest
    from filter.apply import Tools, filter_pairs
    from filter.rescore import AuditorProcess

    meta = read_meta(folder, "audit")
    audit: dict[str, Any] = meta.settings if meta else {"audit": {"embedder": plan.embedder}}
    sections = audit | {"taxonomy": taxonomy_digest(load_taxonomy())}
    sections |= {"filter": settings.model_dump(), "balance": balance.model_dump()}
    pool, rate = folder / f"{plan.before('filter')}.jsonl", audit["audit"].get("false_discovery_rate", 0.05)
    scorer = AuditorProcess(pool, plan.embedder, rate, together=True)

    def work(pairs: list[Pair]) -> list[Pair]:
        tools = Tools(folder, load_embedder(plan.embedder), scorer)
        try:
            return filter_pairs(pairs, settings, balance, load_taxonomy(), tools)
        finally:
            scorer.close()

    made_of = partial(passed_on, folder, [plan.before("filter")])
    return Stage(name="filter", settings=sections, batch=work, made_of=made_of)  # type: ignore[arg-type]


def _conclude(folder: Path) -> None:
    """What every gate let pass and stopped, what was rejected for it (it is the first to stop), and could not judge."""
    from rich.console import Console
    from rich.table import Table

    from data.gate_tally import tally_gates
    from data.records import Pair
    from data.stage import read_stage

    table = Table(box=None, header_style="bold")
    table.add_column("gate", no_wrap=True)
    for heading in ("passed", "stopped", "rejected\nfor it", "not\njudged"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    pairs = list(read_stage(folder, "filter", Pair))
    for tally in tally_gates(pairs):
        counts = (tally.passed, tally.stopped, tally.rejected, tally.unjudged)
        table.add_row(tally.gate, *map(str, counts), tally.because)
    console = Console(highlight=False, markup=False)  # a reason may name a profile's [mllm]
    console.print(table)
    kept = sum(pair.rejected is None for pair in pairs)
    rows, report = folder / "filter.jsonl", folder / "report.html"
    console.print(f"kept {kept} of {len(pairs)}; rows in {rows}", soft_wrap=True)
    if report.exists() and report.stat().st_mtime_ns < rows.stat().st_mtime_ns:
        console.print(
            f"{report} and the benchmark still show the filter before this one: `python -m construct.run --stage "
            f"build --run {folder} --profile PROFILE`, with the profile of this run, makes both anew.",
            soft_wrap=True,
        )  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
