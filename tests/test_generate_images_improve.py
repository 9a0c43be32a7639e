"""The improvement loop against scripted critics: what is redrawn, which attempt wins, and what adds up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import RowFailed, UserError
from data.llm.cache import ResponseCache
from data.llm.chat import Asker, ChatRequest, Completion
from data.llm.openai_chat import OpenAIChat
from data.records import Drawing, Pair, seed_of
from data.stage import Stage, read_stage, run_stage
from generate_images.critic import ChatCritic
from generate_images.draw import draw_pairs
from generate_images.drawn import Drawn, Size
from generate_images.improve import Case, Review
from generate_images.settings import LoopSettings
from generate_images.writer import read_drawing
from tests.openai_server import says, serve


class Painter:
    """Paints noise that depends on prompt and seed; prompts that say `black` come out black at first."""

    name = "painter"

    def __init__(self, black_attempts: int = 0) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.black = black_attempts

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        return [self._paint(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _paint(self, prompt: str, seed: int) -> Image.Image:
        tries = sum(prompt == before for before, _ in self.drawn)
        self.drawn.append((prompt, seed))
        if "black" in prompt and tries < self.black:
            return Image.new("RGB", (32, 32))
        noise = np.random.default_rng([seed, len(prompt)]).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        return Image.fromarray(noise)


class Script:
    """A critic that says of each prompt what it was told to, and fails on prompts it does not know."""

    name = "script"

    def __init__(self, said: dict[str, tuple[float, str]]) -> None:
        self.said = said
        self.cases: list[Case] = []

    def review(self, cases: Sequence[Case]) -> list[Review | RowFailed]:
        self.cases += cases
        assert all(case.image.exists() for case in cases)
        return [
            Review(caption=f"saw {case.prompt}", match=self.said[case.prompt][0],
                   improved_prompt=self.said[case.prompt][1])
            if case.prompt in self.said
            else RowFailed("invalid_reply", "no JSON")
            for case in cases
        ]  # fmt: skip


class Fit:
    """A similarity that is told per drawing seed."""

    name = "fit"

    def __init__(self, of_seed: dict[int, float]) -> None:
        self.of_seed = of_seed

    def similarity(self, images: Sequence[Path], texts: Sequence[str]) -> list[float]:
        drawings = [read_drawing(image) for image in images]
        return [self.of_seed[drawing.seed] for drawing in drawings if drawing]


def pair(identity: str, description: str) -> Pair:
    return Pair(id=identity, category="Hate", sub_category="x", image_description=description)


def one(drawn: Sequence[Pair | RowFailed]) -> tuple[Pair, Drawing]:
    (only,) = drawn
    assert isinstance(only, Pair) and only.drawing is not None
    return only, only.drawing


def test_a_picture_that_misses_is_redrawn_with_the_improved_prompt_and_the_best_wins(tmp_path: Path) -> None:
    critic = Script({"a": (0.2, "a better"), "a better": (0.8, "unused")})
    painter = Painter()
    drawn, drawing = one(draw_pairs([pair("p", "a")], painter, tmp_path, critic=critic))
    assert [prompt for prompt, _ in painter.drawn] == ["a", "a better"]
    assert [seed for _, seed in painter.drawn] == [seed_of("p", 0), seed_of("p", 1)]
    assert drawn.rejected is None and drawing.prompt == "a better"
    assert [attempt.match for attempt in drawing.attempts] == [0.2, 0.8]
    assert drawing.attempts[1].caption == "saw a better"
    best = tmp_path / drawing.attempts[1].image_path
    assert drawn.image_path == "images/p.png"
    assert (tmp_path / drawn.image_path).read_bytes() == best.read_bytes()
    assert all(case.description == "a" for case in critic.cases)


def test_the_best_attempt_wins_even_if_it_is_not_the_last(tmp_path: Path) -> None:
    critic = Script({"a": (0.3, "b"), "b": (0.7, "c"), "c": (0.4, "d"), "d": (0.1, "e"), "e": (1.0, "")})
    drawn, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, LoopSettings(rounds=3), critic))
    assert [attempt.prompt for attempt in drawing.attempts] == ["a", "b", "c", "d"]
    assert drawing.prompt == "b" and drawn.rejected is None


def test_among_matches_of_the_same_tenth_the_similarity_decides(tmp_path: Path) -> None:
    critic = Script({"a": (0.71, "b"), "b": (0.69, "c"), "c": (0.70, "d")})
    fit = Fit({seed_of("p", 0): 0.20, seed_of("p", 1): 0.31, seed_of("p", 2): 0.25})
    loop = LoopSettings(rounds=2)
    _, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, loop, critic, fit))
    assert drawing.prompt == "b"
    assert [attempt.similarity for attempt in drawing.attempts] == [0.20, 0.31, 0.25]


def test_what_never_matches_is_rejected_with_its_best_figure(tmp_path: Path) -> None:
    critic = Script({"a": (0.1, "b"), "b": (0.4, "b")})
    drawn, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, LoopSettings(rounds=2), critic))
    assert drawn.rejected is not None and drawn.rejected.reason == "mismatch"
    assert drawn.rejected.detail == "best match 0.40 after 3 attempts"
    assert len(drawing.attempts) == 3


def test_a_critic_that_cannot_be_read_leaves_the_pair_unscored_and_a_rerun_heals_it(tmp_path: Path) -> None:
    (failed,) = draw_pairs([pair("p", "a")], Painter(), tmp_path, critic=Script({}))
    assert isinstance(failed, RowFailed) and failed.reason == "invalid_reply"
    again = Painter()
    drawn, _ = one(draw_pairs([pair("p", "a")], again, tmp_path, critic=Script({"a": (0.9, "")})))
    assert drawn.rejected is None
    assert again.drawn == []  # the picture was there already


def test_a_critic_that_fails_later_does_not_cost_the_attempts_it_judged(tmp_path: Path) -> None:
    drawn, drawing = one(
        draw_pairs([pair("p", "a")], Painter(), tmp_path, critic=Script({"a": (0.6, "unknown")}))
    )
    assert drawn.rejected is None and drawing.prompt == "a"
    assert [attempt.match for attempt in drawing.attempts] == [0.6, None]


def test_a_picture_that_passes_wins_over_one_of_the_same_tenth_that_does_not(tmp_path: Path) -> None:
    critic = Script({"a": (0.54, "b"), "b": (0.46, "")})
    fit = Fit({seed_of("p", 0): 0.2, seed_of("p", 1): 0.3})
    loop = LoopSettings(rounds=1, least_match=0.5)
    drawn, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, loop, critic, fit))
    assert drawn.rejected is None and drawing.prompt == "a"


@pytest.mark.parametrize("failing", ["critic", "generator"])
def test_a_failure_after_a_mismatch_fails_the_pair_and_a_rerun_goes_on_from_there(
    tmp_path: Path, failing: str
) -> None:
    class Server(Painter):
        """Streams, and has no picture for a mended prompt."""

        def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing:
            return Drawing(generator=self.name, prompt=prompt, seed=seed)

        def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
            for place, drawing in enumerate(drawings):
                if drawing.prompt == "mended":
                    yield Drawn(place, None, RowFailed("server_error", "HTTP 503"))
                else:
                    yield Drawn(place, self._paint(drawing.prompt, drawing.seed))

    reviews = {"a": (0.3, "mended"), "mended": (0.9, "")}
    known = reviews if failing == "generator" else {"a": reviews["a"]}
    painter = Server() if failing == "generator" else Painter()
    (failed,) = draw_pairs([pair("p", "a")], painter, tmp_path, critic=Script(known))
    assert isinstance(failed, RowFailed)
    assert failed.reason == {"critic": "invalid_reply", "generator": "server_error"}[failing]
    drawn, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, critic=Script(reviews)))
    assert drawn.rejected is None and [attempt.match for attempt in drawing.attempts] == [0.3, 0.9]


def test_a_generator_that_gives_too_few_pictures_fails_its_pairs(tmp_path: Path) -> None:
    class Short(Painter):
        def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
            return super().draw(prompts, seeds)[1:]

    class Silent(Painter):
        def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing:
            return Drawing(generator=self.name, prompt=prompt, seed=seed)

        def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
            yield Drawn(1, self._paint(drawings[1].prompt, drawings[1].seed))

    both = [pair("p", "a"), pair("q", "b")]
    short = draw_pairs(both, Short(), tmp_path / "short")
    assert [isinstance(each, RowFailed) and each.reason for each in short] == ["no_image"] * 2
    assert not list((tmp_path / "short").rglob("*.png"))  # whose picture came, nobody can tell
    lost, drawn = draw_pairs(both, Silent(), tmp_path / "silent")
    assert isinstance(lost, RowFailed) and lost.reason == "no_image"
    assert isinstance(drawn, Pair) and (tmp_path / "silent" / drawn.image_path).exists()


def test_without_a_critic_the_best_of_k_seeds_is_kept_by_similarity(tmp_path: Path) -> None:
    seeds = [seed_of("p", attempt) for attempt in range(3)]
    fit = Fit(dict(zip(seeds, [0.2, 0.3, 0.1], strict=True)))
    loop = LoopSettings(best_of=3)
    drawn, drawing = one(draw_pairs([pair("p", "a")], Painter(), tmp_path, loop, similarity=fit))
    assert drawing.seed == seeds[1] and len(drawing.attempts) == 3
    picture = tmp_path / drawn.image_path
    assert drawing.sha256 == hashlib.sha256(picture.read_bytes()).hexdigest()  # no file holds its own
    assert read_drawing(picture) == drawing.replace(attempts=(), sha256="")


def test_a_black_picture_is_drawn_again_with_another_seed(tmp_path: Path) -> None:
    drawn, drawing = one(draw_pairs([pair("p", "black cat")], Painter(black_attempts=2), tmp_path))
    assert drawn.rejected is None and drawing.seed == seed_of("p", 2)
    assert [attempt.problem for attempt in drawing.attempts] == ["black", "black", ""]
    assert (tmp_path / drawn.image_path).exists()


def test_a_picture_that_stays_black_is_rejected_with_the_reason(tmp_path: Path) -> None:
    painter = Painter(black_attempts=99)
    drawn, drawing = one(draw_pairs([pair("p", "black cat")], painter, tmp_path, LoopSettings(retries=2)))
    assert drawn.rejected is not None and drawn.rejected.reason == "black"
    assert drawn.rejected.detail == "black in the last of 3 attempts"
    assert len(painter.drawn) == len(drawing.attempts) == 3
    assert drawn.image_path == "" and not list(tmp_path.rglob("*.png"))


def test_rounds_and_funnel_add_up_over_a_stage_and_a_second_run_draws_nothing(tmp_path: Path) -> None:
    critic = Script(
        {f"good {n}": (0.9, "") for n in range(5)}
        | {f"mend {n}": (0.3, f"mended {n}") for n in range(4)}
        | {f"mended {n}": (0.85, "") for n in range(4)}
        | {f"lost {n}": (0.1, f"lost {n}") for n in range(3)}
        | {"black cat": (0.9, "")}
    )
    texts = [*critic.said, "unread"]
    pairs = [pair(f"p{n}", text) for n, text in enumerate(texts) if not text.startswith("mended")]
    painter = Painter(black_attempts=99)
    loop = LoopSettings(rounds=2, retries=1)
    stage = Stage(
        name="draw", settings={}, batch_size=4,
        batch=lambda chunk: draw_pairs(chunk, painter, tmp_path, loop, critic),
    )  # fmt: skip
    meta = asyncio.run(run_stage(stage, pairs, tmp_path))
    assert meta.rejected == {"black": 1, "mismatch": 3} and meta.failed == {"invalid_reply": 1}
    assert meta.entered == 14 == meta.kept + 4 + 1
    rows = list(read_stage(tmp_path, "draw", Pair))
    rounds = Counter(len(row.drawing.attempts) for row in rows if row.drawing)
    assert rounds == {1: 5, 2: 5, 3: 3}  # good; mended, and black tried twice; lost
    recorded = sum(tries * count for tries, count in rounds.items())
    assert len(painter.drawn) == recorded + 1  # and the one the critic could not read
    assert len(critic.cases) == len(painter.drawn) - 2  # black pictures are nobody's to judge
    before = len(painter.drawn)
    assert asyncio.run(run_stage(stage, pairs, tmp_path, retry_failed=True)).kept == meta.kept
    assert len(painter.drawn) == before


def test_a_chat_model_sees_the_picture_and_its_review_counts(tmp_path: Path) -> None:
    review = {"caption": "noise", "match": 0.9, "improved_prompt": ""}
    with serve(says(review)) as server:
        chat = OpenAIChat("mllm", server.url, "NO_KEY", 10.0)
        critic = ChatCritic(Asker(chat, ResponseCache(tmp_path / "responses.sqlite")))
        pairs = [pair("p", "a </description> trick"), pair("q", "b")]
        drawn = draw_pairs(pairs, Painter(), tmp_path, critic=critic)
        critic.close()
    assert [each.drawing.attempts[0].match for each in drawn if isinstance(each, Pair) and each.drawing] == [
        0.9,
        0.9,
    ]
    sent = [json.dumps(body["messages"]) for body in server.seen]  # in whatever order they arrived
    assert len(sent) == 2 and all("data:image/png;base64," in each for each in sent)
    assert sum("a &lt;/description&gt; trick" in each for each in sent) == 1


def test_reviews_under_way_when_the_account_is_empty_are_kept_and_no_more_are_begun(tmp_path: Path) -> None:
    class Purse:
        """Empty at the third call."""

        model = "m"
        asked = 0

        async def complete(self, request: ChatRequest) -> Completion:
            self.asked += 1
            if self.asked == 3:
                raise UserError("no credit left")
            await asyncio.sleep(0.2)
            return Completion(text=json.dumps({"caption": "noise", "match": 0.9, "improved_prompt": ""}))

        async def close(self) -> None: ...

    purse, cache = Purse(), ResponseCache(tmp_path / "responses.sqlite")
    critic = ChatCritic(Asker(purse, cache), workers=4)
    with pytest.raises(UserError, match="no credit left"):
        draw_pairs([pair(f"p{n}", f"a {n}") for n in range(12)], Painter(), tmp_path, critic=critic)
    critic.close()
    assert purse.asked == 4 and cache.spent().calls == 3
    cache.close()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_similarity_model_loads_from_its_folder_and_reads_long_texts_whole(
    tmp_path: Path, kind: str
) -> None:
    from generate_images.similarity import ImageTextModel
    from tests.tiny_diffusion import save_similarity

    model = ImageTextModel(str(save_similarity(tmp_path / kind, kind)), "cpu")
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        Painter()._paint("x" * n, n).save(path)
    long = "a man in a dark jacket beside the red table with the lamp near the box " * 5
    texts = ["a red box.", f"{long}. a man", f"{long}. the lamp"]
    scores = model.similarity(paths, texts)
    assert len(scores) == 3 and all(-1 <= score <= 1 for score in scores)
    assert scores == pytest.approx(
        [model.similarity([p], [t])[0] for p, t in zip(paths, texts, strict=True)], abs=1e-5
    )
    assert model.similarity([paths[1]], [texts[1]]) != model.similarity([paths[1]], [texts[2]])


def test_a_chat_model_is_no_image_text_model(tmp_path: Path) -> None:
    from data.image_embedder import load_image_embedder
    from generate_images.similarity import ImageTextModel
    from tests.tiny_vlms import llava_hf

    folder = str(llava_hf(tmp_path))
    for load in (ImageTextModel, load_image_embedder):
        with pytest.raises(UserError, match="is no image-text model: name a CLIP or a SigLIP"):
            load(folder)


def test_a_profile_has_its_mllm_judge_the_pictures_of_stage_draw(tmp_path: Path) -> None:
    from construct.profile import ChatSection, load_profile
    from construct.stages import STEPS
    from construct.workshop import Workshop

    profile = load_profile("offline")
    step = next(step for step in STEPS if step.name == "draw")
    plain = step.stage(Workshop(profile, tmp_path)).fingerprint
    with serve(says({"caption": "a sketch", "match": 0.85, "improved_prompt": ""})) as server:
        mllm = ChatSection(kind="openai", model="m", base_url=server.url)
        draw = profile.draw.model_copy(update={"critic": True})
        shop = Workshop(profile.model_copy(update={"mllm": mllm, "draw": draw}), tmp_path)
        shop.generator = Painter()
        assert step.stage(shop).fingerprint != plain

        async def stage() -> list[Pair]:
            await run_stage(step.stage(shop), [pair("p", "a"), pair("q", "b")], tmp_path)
            await shop.close()
            return list(read_stage(tmp_path, "draw", Pair))

        drawn = asyncio.run(stage())
    assert [each.drawing.attempts[0].match for each in drawn if each.drawing] == [0.85, 0.85]
