"""THE table of stages: what runs, in which order, on what. A stage is one function and one line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal

from construct.describe import describe_element
from construct.elements import list_elements, pairs_of
from construct.images import given_images
from construct.perceive import perceive_image
from construct.profile import Profile
from construct.rewrite import rewrite_query
from construct.workshop import Workshop
from data.errors import RowFailed
from data.records import ElementList, Pair, Record
from data.stage import Stage
from data.stage_chain import passed_on
from data.stage_meta import DIGITS
from data.taxonomy import load_taxonomy, taxonomy_digest

# Keys of the profile that change no result: how many work, how long one waits, what it costs.
_HOW = {"workers", "timeout_seconds", "key_variable", "base_url", "requests_per_minute", "tokens_per_minute",
        "input_price", "output_price"}  # fmt: skip
HOW = {"author": _HOW, "mllm": _HOW, "draw": {"machine"}}


@dataclass(frozen=True)
class Step:
    """One line of the table.

    It works on what the steps in `after` kept (none: on what it finds itself). `each` works on one
    record at a time, asking the chat model `asks`, `batch` on `size` records (None: all at once).
    `sections` are the parts of the profile, `prompts` the prompt files, that the results depend on.
    """

    name: str
    about: str
    after: tuple[str, ...] = ()
    each: Callable[[Any, Workshop], Awaitable[Record]] | None = None
    batch: Callable[[Sequence[Any], Workshop], Sequence[Record | RowFailed]] | None = None
    size: int | None = None
    sections: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    makes: type[Record] = Pair
    asks: Literal["author", "mllm"] = "author"
    takes: Callable[[Iterable[Any]], Iterable[Record]] = iter
    starts: Callable[[Workshop], Iterable[Record]] | None = None  # where nothing comes before
    also: Callable[[Workshop], dict[str, object]] = lambda _: {}  # more that the results depend on

    def stage(self, shop: Workshop) -> Stage[Any, Any]:
        """This step as a stage that can run with the workshop's tools."""
        return Stage(
            name=self.name,
            settings=self._settings(shop),
            each=self.each and partial(_with, self.each, shop),
            batch=self.batch and partial(_with, self.batch, shop),
            batch_size=self.size,
            make=self._made_elsewhere(shop),
            workers=shop.workers(getattr(shop.profile, self.asks)),
            note=shop.spent,
            spend=partial(shop.spend, self.name),
            made_of=partial(passed_on, shop.folder, self.after),
        )

    def _made_elsewhere(self, shop: Workshop) -> Callable[[], Callable[[Any], Any]] | None:
        """How another process makes its function; None where it asks a paid model, whose cost one must count."""
        if self.batch is None or self.size is None or shop.profile.draw.critic:
            return None
        return partial(_made, self.batch, shop.elsewhere())

    def _settings(self, shop: Workshop) -> dict[str, Any]:
        """What the results depend on."""
        settings: dict[str, Any] = {
            section: getattr(shop.profile, section).model_dump(exclude=HOW.get(section))
            for section in self.sections
        }
        settings |= {f"prompt {name}": shop.prompt(name).fingerprint for name in self.prompts}
        return settings | self.also(shop)


def _with(function: Callable[[Any, Workshop], Any], shop: Workshop, records: Any) -> Any:
    return function(records, shop)


def _made(function: Callable[[Any, Workshop], Any], shop: Workshop) -> Callable[[Any], Any]:
    """The step's function with a workshop of another process."""
    return partial(_with, function, shop)


def _draw(pairs: Sequence[Pair], shop: Workshop) -> list[Pair | RowFailed]:
    """Pictures for the pairs that have none; images that were there already stay as they are."""
    from generate_images.draw import draw_pairs

    bare = [pair for pair in pairs if not pair.image_path]
    if not bare:
        return list(pairs)
    loop = shop.profile.draw.loop
    drawn = iter(draw_pairs(bare, shop.generator, shop.folder, loop, shop.critic, shop.similarity))
    return [pair if pair.image_path else next(drawn) for pair in pairs]


def _critic_settings(shop: Workshop) -> dict[str, object]:
    """What the pictures depend on beside the profile's [draw], where an MLLM judges them."""
    if not shop.profile.draw.critic or shop.profile.mllm is None:
        return {}
    from generate_images.critic import review_prompt

    model = shop.profile.mllm.model_dump(exclude=HOW["mllm"])
    return {"mllm": model, "prompt review": review_prompt().fingerprint}


def _audit(pairs: Sequence[Pair], shop: Workshop) -> list[Pair]:
    queries, shown = [pair.instruction for pair in pairs], [pair.image_description for pair in pairs]
    origins = ["author" if pair.drawing else "caption" for pair in pairs]
    if shop.engine.spreads:
        from audit.calibrations import load_calibration
        from audit.spread import SpreadAuditor, load_auditor

        name, rate = shop.profile.audit.embedder, shop.profile.audit.false_discovery_rate
        load = partial(load_auditor, name, name, rate)
        audits = SpreadAuditor(shop.engine, load, load_calibration(name), rate).score(queries, shown, origins)
    else:
        audits = shop.auditor.score(queries, shown, origins)
    return [pair.replace(audit=audit) for pair, audit in zip(pairs, audits, strict=True)]


async def _verify(pair: Pair, shop: Workshop) -> Pair:
    from filter.verify import verify_pair

    return await verify_pair(pair, shop.viewer, shop.prompt("verify"), shop.folder)


def _filter(pairs: Sequence[Pair], shop: Workshop) -> list[Pair]:
    from filter.apply import Tools, filter_pairs

    tools = Tools(shop.folder, shop.spread_embedder("filter"), shop.auditor)
    return filter_pairs(pairs, shop.profile.filter, shop.profile.balance, load_taxonomy(), tools)


def _embedder_settings(shop: Workshop) -> dict[str, object]:
    """Which elements count as the same."""
    return {"audit": {"embedder": shop.profile.audit.embedder}}


def _calibration_settings(shop: Workshop) -> dict[str, object]:
    """What a leak score depends on beside the profile's [audit]."""
    return {"calibration": shop.calibration.digest()[:DIGITS]}


def _scorer_settings(shop: Workshop) -> dict[str, object]:
    return _embedder_settings(shop) | _calibration_settings(shop)


def _taxonomy_settings(_: Workshop) -> dict[str, object]:
    return {"taxonomy": taxonomy_digest(load_taxonomy())}


def _filter_settings(shop: Workshop) -> dict[str, object]:
    return _calibration_settings(shop) | _taxonomy_settings(shop)


STEPS: tuple[Step, ...] = (
    Step("elements", "an LLM lists risky elements", each=list_elements, makes=ElementList,
         starts=lambda _: load_taxonomy(), sections=("author", "elements"), prompts=("elements",),
         also=_embedder_settings),
    Step("describe", "an LLM describes a scene for each", ("elements",), each=describe_element,
         takes=pairs_of, sections=("author",), prompts=("describe",)),
    Step("perceive", "an MLLM looks at images that exist", each=perceive_image, asks="mllm",
         starts=lambda shop: given_images(shop.profile.images, shop.folder),
         sections=("mllm",), prompts=("perceive",), also=_taxonomy_settings),
    Step("rewrite", "an LLM hides the harm in the query", ("describe", "perceive"), each=rewrite_query,
         sections=("author", "rewrite"), prompts=("rewrite", "check"), also=_scorer_settings),
    Step("draw", "the scenes are drawn", ("rewrite",), batch=_draw, size=64,
         sections=("draw",), also=_critic_settings),
    Step("audit", "leakage is scored", ("draw",), batch=_audit, sections=("audit",),
         also=_calibration_settings),
    Step("verify", "an MLLM checks that text and picture match and are risky together", ("audit",),
         each=_verify, asks="mllm", sections=("mllm",), prompts=("verify",)),
    Step("filter", "leaks and repeats are dropped, the rest balanced", ("verify",), batch=_filter,
         sections=("audit", "filter", "balance"), also=_filter_settings),
)  # fmt: skip


def steps_of(profile: Profile) -> list[Step]:
    """The steps a profile asks for: nothing is perceived without [[images]], nothing verified without [mllm].

    What came after a step that is left out comes after the steps before it.
    """
    verifies = profile.mllm is not None and profile.filter.verify
    wanted = {"perceive": bool(profile.images), "verify": verifies}
    left_out = {step.name: step.after for step in STEPS if not wanted.get(step.name, True)}

    def present(names: Iterable[str]) -> tuple[str, ...]:
        each = (present(left_out[name]) if name in left_out else (name,) for name in names)
        return tuple(dict.fromkeys(chain.from_iterable(each)))

    return [replace(step, after=present(step.after)) for step in STEPS if step.name not in left_out]
