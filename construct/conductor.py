"""Conducting a run: the stages in order, in one folder, and what a person is told of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from construct.batching import find_one_by_one
from construct.funnel import conclude
from construct.profile import Profile, load_profile
from construct.refusals import need, refuse_stale
from construct.stages import STEPS, Step, steps_of
from construct.workshop import Workshop, price_of
from data.benchmark.options import BUILD, forget_build
from data.build import build_run
from data.engines import opened_engine, say_stays_local
from data.errors import UserError, unknown
from data.records import Pair, Record
from data.rows import write_json
from data.run_folder import Plan, locked, read_plan, write_plan
from data.stage import read_meta, read_stage, run_stage
from data.stage_meta import difference, spend_of
from data.taxonomy import load_taxonomy

ALL = "all"
NAMES = [*(step.name for step in STEPS), BUILD]
LEFT_OUT = {  # why a profile may leave a stage out
    "perceive": "name a source under [[images]]",
    "verify": "the profile needs an [mllm] table and, under [filter], verify = true",
}


@dataclass(frozen=True)
class Commission:
    """What the command line asks for."""

    profile: str = "offline"
    run: Path | None = None
    stage: str = ALL
    limit: int | None = None
    redo: Sequence[str] = ()
    budget: float | None = None
    retry_failed: bool = False
    batch: bool = False
    estimate: bool = False
    engine: str = "local"
    ray_address: str | None = None

    @property
    def folder(self) -> Path:
        """The run's folder, where none is named after the profile."""
        return self.run or Path("runs") / ("demo" if self.profile == "offline" else Path(self.profile).stem)


def conduct(wanted: Commission) -> int:
    """Run one stage or all; 0 when every row came through or was rejected, 3 when some failed."""
    _check(wanted)
    profile, folder = load_profile(wanted.profile), wanted.folder
    if wanted.estimate:
        from construct.estimate import print_estimate

        return print_estimate(profile, folder, wanted.stage, wanted.limit, wanted.batch, wanted.retry_failed)
    pools = {name: getattr(profile.engine, name) for name in type(profile.engine).model_fields}
    with locked(folder), opened_engine(wanted.engine, pools, wanted.ray_address) as engine:
        shop = Workshop(profile, folder, wanted.budget, wanted.retry_failed, wanted.batch, engine)
        shop.check()
        chosen = _chosen(profile, wanted.stage)
        _refuse_early(shop, chosen, wanted)
        if wanted.batch:
            shop.one_by_one = find_one_by_one(profile)
        _say_unpriced(profile, wanted.budget)
        _say_uncounted(profile, chosen, wanted.budget)
        _say_shorter(folder, chosen, wanted.limit)
        if engine.spreads and profile.draw.critic:
            say_stays_local("draw", "its critic is paid for, and one process keeps the budget")
        _throw_away(folder, wanted.redo)
        _say_other_plan(folder, plan := _plan(profile, folder))
        write_plan(folder, plan)
        try:
            asyncio.run(_run_steps(shop, wanted.stage, wanted.limit))
            if wanted.stage not in (ALL, BUILD):
                return _conclude(shop)
            report = _report(shop)
            try:
                benchmark = build_run(folder, load_taxonomy())
            except UserError:  # nothing is left, say: the funnel tells where it went
                _conclude(shop, report)
                raise
            return _conclude(shop, report, benchmark)
        finally:
            _write_spend(shop)
            shop.cache.close()


def _conclude(shop: Workshop, report: Path | None = None, benchmark: Path | None = None) -> int:
    """What became of the rows, by the stages that the profile asks for, and what was made of them; the exit code."""
    names = [*(step.name for step in steps_of(shop.profile)), *([BUILD] if benchmark else [])]
    metas = [meta for name in names if (meta := read_meta(shop.folder, name)) is not None]
    return conclude(shop.folder, metas, shop.ledger.spent, {"benchmark": benchmark, "report": report})


def _check(wanted: Commission) -> None:
    if wanted.stage not in (ALL, *NAMES):
        raise unknown("stage", wanted.stage, [ALL, *NAMES])
    for name in wanted.redo:
        if name not in NAMES:
            raise unknown("stage to --redo", name, NAMES)
    if wanted.limit is not None and wanted.limit < 1:
        raise UserError(f"--limit takes a number from 1 upwards, not {wanted.limit}.")
    if wanted.budget is not None and not wanted.budget >= 0:  # nan is not
        raise UserError(f"--budget takes a sum of money, not {wanted.budget:g}.")


def _chosen(profile: Profile, stage: str) -> list[Step]:
    """The steps to run; none for the build alone. Raises `UserError` for a stage this profile leaves out."""
    chosen = [step for step in steps_of(profile) if stage in (ALL, step.name)]
    if not chosen and stage != BUILD:
        raise UserError(f"Stage {stage!r} has nothing to work on: {LEFT_OUT[stage]}.")
    return chosen


def _refuse_early(shop: Workshop, chosen: Sequence[Step], wanted: Commission) -> None:
    """Raise `UserError` for what would be refused later, before anything is thrown away or written."""
    steps = {step.name: step for step in steps_of(shop.profile)}
    if wanted.stage == BUILD:
        need(BUILD, list(steps), shop.folder, wanted.redo)
    elif wanted.stage != ALL:
        need(wanted.stage, _all_before(steps, wanted.stage), shop.folder, wanted.redo)
    made = {step.name for step in chosen} | ({BUILD} if wanted.stage in (ALL, BUILD) else set())
    for name in wanted.redo:
        if name not in made:
            raise UserError(
                f"--redo {name} goes with --stage {name} or all, in a profile that has that stage."
            )
    refuse_stale([step for step in chosen if step.name not in wanted.redo], shop)


def _all_before(steps: Mapping[str, Step], name: str) -> list[str]:
    """The names of the steps that a step's rows go back to, in order."""
    found, left = set(), list(steps[name].after)
    while left:
        found.add(each := left.pop())
        left += steps[each].after
    return [each for each in steps if each in found]


def _say_shorter(folder: Path, chosen: Sequence[Step], limit: int | None) -> None:
    """That a limit below what there is takes rows away is said before it does."""
    metas = [(step, read_meta(folder, step.name)) for step in chosen if step.makes is Pair]
    longer = [
        f"{meta.entered} of {step.name}" for step, meta in metas if meta and limit and meta.entered > limit
    ]
    if longer:
        print(
            f"note: --limit {limit} is less than {folder} holds ({', '.join(longer)}): the rows beyond it leave "
            "the stages' files. A run without it makes them again; replies and pictures stay and serve it.",
            file=sys.stderr,
        )


def _say_unpriced(profile: Profile, budget: float | None) -> None:
    """A model without a price is said, before anything is spent."""
    for section in dict.fromkeys(each for each in (profile.author, profile.mllm) if each):
        if section.kind == "openai" and price_of(section) is None:
            cannot = "" if budget is None else ", and --budget cannot stop it"
            print(
                f"note: no price is known for {section.model}: its tokens are counted, its cost is not"
                f"{cannot}. Add it to data/llm/prices.toml, or to the profile as input_price and output_price.",
                file=sys.stderr,
            )


def _say_uncounted(profile: Profile, chosen: Sequence[Step], budget: float | None) -> None:
    """What a budget does not count is said, before anything is spent."""
    draws = any(step.name == "draw" for step in chosen)
    if budget is not None and draws and profile.draw.asks_server:
        print(
            f"note: --budget counts calls of chat models; what {profile.draw.generator} takes for its pictures "
            "is not counted, and --budget cannot stop it.",
            file=sys.stderr,
        )


def _say_other_plan(folder: Path, plan: Plan) -> None:
    """A profile that gives a run another name or licence, perhaps by mistake, is said to."""
    try:
        known = read_plan(folder)
    except UserError:  # there is none, or what is there is damaged
        return
    before, now = ({"name": each.name, "license": each.license} for each in (known, plan))
    if before != now:
        print(
            f"note: this profile changes the benchmark of {folder}: {difference(before, now)}.",
            file=sys.stderr,
        )


def _throw_away(folder: Path, stages: Sequence[str]) -> None:
    """Their rows; of a build what it was made of, for how it was made holds for the next one too."""
    for name in stages:
        if name == BUILD:
            forget_build(folder)
            continue
        (folder / f"{name}.jsonl").unlink(missing_ok=True)
        (folder / f"{name}.meta.json").unlink(missing_ok=True)


async def _run_steps(shop: Workshop, stage: str, limit: int | None) -> None:
    """The chosen steps in order; each takes what those before it kept."""
    try:
        for step in _chosen(shop.profile, stage):
            shop.ledger.stage = step.name
            inputs = _inputs(step, shop, limit)
            await run_stage(step.stage(shop), inputs, shop.folder, shop.retry_failed, shop.engine)
    finally:
        await shop.close()


class Inputs:
    """What a step works on, read anew each time it is iterated: nothing is held in memory."""

    def __init__(self, read: Callable[[], Iterator[Record]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Record]:
        return self._read()


def _inputs(step: Step, shop: Workshop, limit: int | None) -> Iterable[Record]:
    """What the steps before kept, taking them in turn; where none is before, what the step starts with."""
    if step.starts is not None:
        return list(islice(step.starts(shop), limit if step.makes is Pair else None))
    earlier = [each for each in steps_of(shop.profile) if each.name in step.after]

    def read() -> Iterator[Record]:
        branches = [iter(step.takes(_kept(shop.folder, each))) for each in earlier]
        in_turn = chain.from_iterable(zip_longest(*branches))
        return islice((record for record in in_turn if record is not None), limit)

    return Inputs(read)


def _kept(folder: Path, step: Step) -> Iterator[Record]:
    for record in read_stage(folder, step.name, step.makes):
        if not (isinstance(record, Pair) and record.rejected):
            yield record


def _write_spend(shop: Workshop) -> None:
    """`run.meta.json`: what the whole run has cost, and each stage of it."""
    stages = {step.name: shop.spend(step.name).model_dump() for step in STEPS}
    spent = {name: spend for name, spend in stages.items() if spend["calls"]}
    total = spend_of(shop.cache.spent()).model_dump()
    write_json(shop.folder / "run.meta.json", {"spend": total, "stages": spent})


def _report(shop: Workshop) -> Path:
    """Write the report of what the stages made."""
    from construct.report import write_report

    return write_report(shop.folder, [step.name for step in steps_of(shop.profile)], load_taxonomy())


def _plan(profile: Profile, folder: Path) -> Plan:
    """What filter.run, filter.review and data.build need to know of the run."""
    made = partial(_made_with, profile, folder)
    return Plan(
        stages=tuple(step.name for step in steps_of(profile)),
        name=profile.benchmark.name,
        license=profile.benchmark.license,
        embedder=made("audit", "audit")["embedder"],
        models=_models(profile, made),
    )


def _models(profile: Profile, made: Callable[[str, str], Mapping[str, Any]]) -> dict[str, str]:
    """Who did what, for the dataset card."""
    present = {step.name for step in steps_of(profile)}
    draw = made("draw", "draw")
    roles = {"writing": ("rewrite", "author")}
    if "perceive" in present:
        roles["looking at images"] = ("perceive", "mllm")
    if draw["critic"]:
        roles["judging pictures"] = ("draw", "mllm")
    if "verify" in present:
        roles["checking pairs"] = ("verify", "mllm")
    chats = {role: made(*where) for role, where in roles.items()}
    return {role: f"{chat['kind']}: {chat['model']}" for role, chat in chats.items()} | {
        "pictures": draw["generator"],
        "leakage audit": f"embedder {made('audit', 'audit')['embedder']}",
    }


def _made_with(profile: Profile, folder: Path, stage: str, section: str) -> Mapping[str, Any]:
    """A section of the profile as it was when a stage's rows were made, if they are: `--stage` may go by another."""
    meta = read_meta(folder, stage)
    made: Mapping[str, Any] | None = meta.settings.get(section) if meta else None
    return made or getattr(profile, section).model_dump()
