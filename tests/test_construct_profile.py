"""Profiles: what is checked, and how a mistake is said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from construct.conductor import _run_steps
from construct.estimate import KnownLeaks, forecast
from construct.profile import EMBEDDED, ImagesSection, load_profile
from construct.workshop import Workshop
from data.errors import UserError
from data.llm.chat import Asker, ChatRequest, Completion
from tests.fault_server import reply_to
from tests.llm_run import LightWorkshop, make_images, profile


@pytest.mark.parametrize("name", sorted(file.stem for file in EMBEDDED.glob("*.toml")))
def test_embedded_profiles_load(name: str) -> None:
    load_profile(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("per_sub_category = 25", "per_sub_category = 0"),
            r"elements\.per_sub_category: input should be greater",
        ),
        (
            ("per_sub_category", "per_category"),
            r"unknown key elements\.per_category \(known there: per_sub_category, ",
        ),
        (('kind = "offline"', 'kind = "magic"'), r"author\.kind: input should be 'offline' or 'openai'"),
        (
            ('kind = "offline"', 'kind = "offline"\ninput_price = 1.0'),
            "input_price and output_price are given together",
        ),
        (("[author]", "[author"), "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((EMBEDDED / "offline.toml").read_text().replace(*change))
    with pytest.raises(UserError, match=said) as error:
        load_profile(str(path))
    assert "\n" not in str(error.value).split("TOML:")[0]


def test_an_unknown_profile_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown profile 'ofline'; choose from: .*offline"):
        load_profile("ofline")
    with pytest.raises(UserError, match="There is no profile file"):
        load_profile(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("looks", ["critic", "images"])
def test_the_offline_author_is_not_asked_to_look_at_pictures(tmp_path: Path, looks: str) -> None:
    profile = load_profile("offline")
    Workshop(profile, tmp_path).check()
    draw = profile.draw.model_copy(update={"critic": looks == "critic"})
    section = ImagesSection(path=str(tmp_path), source="mine", kind="normal")
    images = (section,) if looks == "images" else ()
    with pytest.raises(UserError, match="sees no pictures"):
        Workshop(profile.model_copy(update={"draw": draw, "images": images}), tmp_path).check()


def check_estimate(shop: Workshop, pairs: int) -> None:
    """What is foreseen of calls and tokens against what the stages then use."""
    foreseen = {each.stage: each.bill for each in forecast(shop.profile, shop.folder, "all", pairs)}
    assert not list(shop.folder.iterdir())  # nothing was made
    for stage in ("elements", "describe", "rewrite"):
        asyncio.run(_run_steps(shop, stage, pairs))
        used = shop.cache.spent(stage)
        for expected, found in zip(foreseen[stage][:3], used[:3], strict=True):
            assert 0.75 * found <= expected <= 1.25 * found


def test_the_estimate_is_within_a_quarter_of_what_the_run_then_uses(tmp_path: Path) -> None:
    shop = LightWorkshop(load_profile("offline"), tmp_path)
    shop.leak_scorer = KnownLeaks()
    check_estimate(shop, pairs=60)


class Viewer:
    """A model that looks at pictures, and what that takes of input tokens as an estimate counts them."""

    model = "viewer"
    tokens = 0

    async def complete(self, request: ChatRequest) -> Completion:
        self.tokens += request.tokens()
        return Completion(
            text=json.dumps(reply_to({"messages": [{"role": "user", "content": request.messages[-1].text}]}))
        )

    async def close(self) -> None:
        """Nothing is open."""


def test_the_estimate_of_looking_counts_all_that_is_quoted(tmp_path: Path) -> None:
    wanted = profile("http://127.0.0.1:1", make_images(tmp_path / "given", 3))
    shop = LightWorkshop(wanted, tmp_path / "run")
    shop.viewer = Asker(viewer := Viewer(), shop.cache, ledger=shop.ledger)
    (foreseen,) = forecast(wanted, shop.folder, "perceive", None)
    asyncio.run(_run_steps(shop, "perceive", None))
    assert (foreseen.rows, foreseen.bill.calls) == (3, 3)
    assert foreseen.bill.input_tokens == pytest.approx(viewer.tokens, rel=0.02)


@pytest.mark.slow
def test_so_it_is_with_the_auditor_itself(tmp_path: Path) -> None:
    check_estimate(Workshop(load_profile("offline"), tmp_path), pairs=246)
