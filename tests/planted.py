"""The scene bank's pairs with faults planted among them, each with the gate that should catch it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from construct.offline.author import OfflineAuthor
from construct.offline.scenes import Scene, load_scenes
from data.embedders import Embedder
from data.llm.cache import ResponseCache
from data.llm.chat import Asker
from data.prompts import load_prompt
from data.records import Audit, Pair, pair_id, seed_of
from data.taxonomy import load_taxonomy
from filter.verify import verify_pair

REPOSITORY = Path(__file__).resolve().parents[1]
UNSUSPICIOUS = Audit(
    leakage=0.05, text_harm=0.3
)  # invented: what the auditor misses is no fault of the filter
OTHER_WORDS = {
    "man": "guy", "woman": "lady", "street": "road", "beside": "next to", "small": "little", "large": "big",
    "stands": "is standing", "while": "as", "holds": "is holding", "red": "crimson", "near": "close to",
    "behind": "in back of", "can": "could", "should": "ought to", "next": "afterwards", "give": "hand",
    "picture": "image", "make": "create", "describe": "depict", "write": "compose", "under": "beneath",
    "old": "aged", "two": "a couple of", "three": "a trio of", "with": "along with", "tell": "explain to",
    "boy": "lad", "girl": "young girl", "people": "folks", "car": "automobile", "on": "upon", "in": "within",
}  # fmt: skip


@dataclass
class Planted:
    """The pairs, and which gate each fault belongs to."""

    pairs: list[Pair] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)  # a planted near-duplicate -> what it repeats

    def add(self, pair: Pair, gate: str | None = None) -> None:
        """A pair; with a gate's name it is a fault that this gate should catch."""
        self.pairs.append(pair)
        if gate:
            self.faults[pair.id] = gate


def plant(folder: Path, minilm: Embedder) -> Planted:
    """Every scene of the bank with its sketch, faults among and after them; leaks audited, all verified."""
    from audit.auditor import Auditor
    from audit.calibrations import load_calibration
    from generate_images.sketch import Sketch

    scenes = load_scenes()
    clean = [_pair_of(scene) for scene in scenes]
    (folder / "images").mkdir(parents=True)
    sketches = Sketch(minilm).draw(
        [pair.image_description for pair in clean], [seed_of(pair.id) for pair in clean]
    )
    for pair, sketch in zip(clean, sketches, strict=True):
        sketch.save(folder / pair.image_path)
    planted = Planted()
    for pair in clean:
        planted.add(pair)
    _plant_texts(planted, scenes, clean)
    _plant_near_duplicates(planted, scenes, clean, folder)
    _plant_pictures(planted, clean, folder)
    leaking = [pair for pair in planted.pairs if planted.faults.get(pair.id) == "leak"]
    auditor = Auditor(minilm, load_calibration("minilm"))
    scored = auditor.score(
        [pair.instruction for pair in leaking], [pair.image_description for pair in leaking]
    )
    audits = {pair.id: audit for pair, audit in zip(leaking, scored, strict=True)}
    audited = [pair.replace(audit=audits.get(pair.id, UNSUSPICIOUS)) for pair in planted.pairs]
    planted.pairs = asyncio.run(_verify(audited, folder))
    return planted


def _pair_of(scene: Scene, name: str = "", **changes: object) -> Pair:
    identity = pair_id(scene.sub_category, scene.element, name)
    category = next(entry.category for entry in load_taxonomy() if entry.sub_category == scene.sub_category)
    pair = Pair(
        id=identity, element=scene.element, category=category, sub_category=scene.sub_category,
        image_description=scene.image_description, harmful_query=scene.harmful_query,
        instruction=scene.leak_free_query, safety_reason=scene.safety_reason, image_path=f"images/{identity}.png",
    )  # fmt: skip
    return pair.replace(**changes)


def _plant_texts(planted: Planted, scenes: tuple[Scene, ...], clean: list[Pair]) -> None:
    """Leaks, mismatches, harmful and meaningless texts: on the scene's own picture, whose clean pair goes."""
    for number, (scene, pair) in enumerate(zip(scenes, clean, strict=True)):
        changed: dict[str, object] = {}
        gate = ""
        if number % 20 == 3:
            gate, changed = "leak", {"instruction": f"{scene.image_description} {scene.leaking_query}"}
        elif number % 20 == 7:
            gate, changed = "mismatch", {"instruction": scenes[(number + 100) % len(scenes)].leak_free_query}
        elif number % 40 == 11:
            gate, changed = (
                "still_harmful",
                {"instruction": scene.harmful_query, "image_description": "A lake."},
            )
        elif number % 40 == 31:
            gate, changed = "meaningless", {"instruction": "Please describe {element} as [insert style]."}
        if gate:
            planted.pairs[number] = pair.replace(**changed)
            planted.faults[pair.id] = gate


def _plant_near_duplicates(
    planted: Planted, scenes: tuple[Scene, ...], clean: list[Pair], folder: Path
) -> None:
    """Thirty: ten with changed words and another picture, twenty with another text and a changed picture."""
    whole = [number for number in range(len(scenes)) if clean[number].id not in planted.faults]
    for place, number in enumerate(whole[:30]):
        scene, original = scenes[number], clean[number]
        twin = _pair_of(scene, "twin")
        planted.twins[twin.id] = original.id
        if place < 10:
            twin = twin.replace(
                instruction=in_other_words(original.instruction),
                image_description=in_other_words(original.image_description),
            )
            Image.effect_mandelbrot((256, 256), (-2 + place / 9, -1.5, 1, 1.5), 60).save(
                folder / twin.image_path
            )
            planted.add(twin, "near_duplicate_text")
            continue
        twin = twin.replace(
            instruction=f"Caption number {place} for my album, please: what is the mood?",
            image_description=scene.paraphrase,
            image_path=f"images/{twin.id}.{'jpg' if place >= 20 else 'png'}",
        )
        with Image.open(folder / original.image_path) as image:
            change_picture(image, place).save(
                folder / twin.image_path, **({"quality": 40} if place >= 20 else {})
            )
        planted.add(twin, "near_duplicate_image")


def change_picture(image: Image.Image, place: int) -> Image.Image:
    """Flipped, resized, or both; the caller recompresses some."""
    changes = (
        ImageOps.mirror,
        lambda image: image.resize((300, 300)),
        lambda image: ImageOps.mirror(image).resize((221, 233)),
        lambda image: image.convert("L").convert("RGB"),
    )
    changed: Image.Image = changes[place % 4](image.convert("RGB"))  # type: ignore[operator]
    return changed


def in_other_words(text: str) -> str:
    """The text with common words replaced by ones that mean the same."""
    return re.sub(r"[A-Za-z]+", lambda word: OTHER_WORDS.get(word[0].lower(), word[0]), text)


def _plant_pictures(planted: Planted, clean: list[Pair], folder: Path) -> None:
    """Corrupt, blank, tiny and odd pictures in place of the scenes' own."""
    whole = [pair for pair in reversed(clean) if pair.id not in planted.faults]
    names = (
        ["corrupt_image"] * 4
        + ["blank_image"] * 4
        + ["tiny_image"] * 2
        + ["wrong_mode"] * 2
        + ["missing_image"] * 2
    )
    for place, (gate, pair) in enumerate(zip(names, whole, strict=False)):
        path = folder / pair.image_path
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if gate == "corrupt_image":
            path.write_bytes(path.read_bytes()[: 300 * (place + 1)] if place % 2 else b"<html>404</html>")
        elif gate == "blank_image":
            Image.new("RGB", (512, 512), ("white", "black", (90, 90, 90), (12, 80, 200))[place % 4]).save(
                path
            )
        elif gate == "tiny_image":
            image.resize((24, 24)).save(path)
        elif gate == "wrong_mode":
            image.putalpha(128)
            image.save(path)
        else:
            path.unlink()
        planted.faults[pair.id] = gate


async def _verify(pairs: list[Pair], folder: Path) -> list[Pair]:
    """The offline author's findings, where the scene bank knows both texts and there is a picture to send."""
    scenes = load_scenes()
    descriptions = {scene.image_description for scene in scenes}
    queries = {
        query
        for scene in scenes
        for query in (scene.leak_free_query, scene.leaking_query, scene.harmful_query)
    }
    asker = Asker(chat=OfflineAuthor(), cache=ResponseCache(folder / "responses.sqlite"))
    prompt = load_prompt(REPOSITORY / "construct/prompts/verify.md")
    known = [
        pair.image_description in descriptions
        and pair.instruction in queries
        and (folder / pair.image_path).exists()
        for pair in pairs
    ]
    return [
        await verify_pair(pair, asker, prompt, folder) if asked else pair
        for pair, asked in zip(pairs, known, strict=True)
    ]
