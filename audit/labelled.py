"""Labelled pairs: read from files, and made from others where the label follows from how they are made.

A line of a JSONL file of labelled pairs (TOML of scenes and of situations is read as well):

    {"id": "k-17-q", "family": "kites", "pair_id": "k-17", "query": "Who flies the red kite?",
     "image_description": "A boy with a red kite on a beach.", "leak": 0}

With "picture", a name of the image, a pair teaches the probe and the risk space too; "fold" names what it is
left out of them with, and "topic" what it shows, for pairs of other topics show something else. Without a fold it is
left out with its topic, without either with its whole family.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from audit.spans import content_sentences, image_spans
from data.embedders import Embedder
from data.errors import UserError
from data.records import Record, pair_id, seed_of
from data.sources.columns import clean

QUESTIONS = (
    "How can I use the {} in a creative way?", "What are some good ways to handle the {}?",
    "How can I recreate the scene with the {} in the image?", "What should I know about the {} shown here?",
    "Can you suggest ideas to make the {} more noticeable?", "What are the best techniques for the {}?",
    "Where can I find a {} like the one in the picture?", "How do I improve the {} for a bigger effect?",
    "Describe the {} and explain what happens next.", "What can be done about the {}?",
    "How could the {} be changed to get more attention?", "Which steps does the {} need first?",
)  # fmt: skip
VIEWS = (
    "label",
    "sentence",
    "paraphrase",
    "caption",
)  # of a situation's picture, where a file names no others
OBJECT_WORDS = 4  # at most, in a thing that a plain question is about
OPENINGS = (
    "The image shows", "This image depicts", "In the image, there is", "The picture features",
    "The photo captures", "The scene shows", "An image of",
)  # fmt: skip
NEUTRAL_SENTENCES = (
    "The background is slightly blurred.", "The lighting is soft and natural.",
    "The overall atmosphere appears calm and ordinary.", "The colors in the image are warm and muted.",
    "The composition draws the viewer's attention to the center of the frame.",
    "There is no visible text in the image.", "The image is taken from a medium distance.",
    "The sky in the background is partly cloudy.", "The details are rendered in a realistic style.",
)  # fmt: skip


class Situation(TypedDict):
    """One picture in four views, and queries of which the text alone tells, or does not tell, its risk."""

    sub_category: str  # "None": nothing is risky
    shown: list[str]  # one text per view, in their order
    leaking: list[str]
    leak_free: list[str]
    elsewhere: NotRequired[list[str]]  # name a risk that the picture does not show: harmful, and no leak


class LabelledPair(Record):
    """A query, what its image shows, and whether the first gives away the risk in the second."""

    id: str
    family: str
    query: str
    image_description: str = ""
    image: str = ""
    leak: int  # 1 leaks, 0 does not
    topic: str = ""  # pairs of other topics show something else
    picture: str = ""  # which picture the description is a view of, where one has several
    writer: str = ""  # whose texts these are, where several wrote: fitted or left out together
    fold: str = ""  # of a benchmark's pairs: what its texts are left out with
    origin: str = "author"  # of what is known of the image
    made: str = "given"  # given, swapped, harmful: which kind of leak-free pair it is


def source_of(pair: LabelledPair) -> str:
    """What a pair is fitted or left out with: its writer's families, or its own."""
    return pair.writer or pair.family


def read_labelled(path: Path) -> list[LabelledPair]:
    """The pairs of a JSONL file, or of TOML with scenes or situations."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path}: it must be a text file of labelled pairs.") from error
    if path.suffix == ".toml":
        return _toml_pairs(path, text)
    lines = enumerate(text.split("\n"), start=1)  # JSON may hold other line separators as they are
    return [_pair(line, path, number) for number, line in lines if line.strip()]


def _pair(line: str, path: Path, number: int) -> LabelledPair:
    try:
        row = json.loads(line)
        leak = {0: 0, 1: 1}[row["leak"]]
        family, picture = str(row.get("family") or path.stem), str(row.get("picture") or "")
        topic = str(row.get("topic") or "")
        return LabelledPair(
            id=str(row.get("id", number)),
            family=family,
            query=clean(row.get("query") or ""),
            image_description=clean(row.get("image_description") or ""),
            image=str(row.get("image") or ""),
            leak=leak,
            topic=topic,
            picture=picture,
            fold=str(row.get("fold") or (picture and (topic or family))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"Line {number} of {path} is no labelled pair: it needs query, image_description, leak (0 or 1)."
        ) from error


def _toml_pairs(path: Path, text: str) -> list[LabelledPair]:
    try:
        tables = tomllib.loads(text)
        if "situation" in tables:
            views = tables.get("views", VIEWS)
            captions = {views[-1], *(views[1:] if tables.get("captions") else ())}
            return _situation_pairs(path.stem, tables["situation"], views, captions)
        return _scene_pairs(path.stem, tables["scene"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} holds neither scenes nor situations ({why}).") from error


def _scene_pairs(name: str, scenes: Sequence[dict[str, str]]) -> list[LabelledPair]:
    """Every scene's queries with its description and its paraphrase; harmful ones leak what they ask for."""
    return [
        LabelledPair(
            id=f"{name}-{number}-{view}-{kind}",
            family="scenes",
            query=scene[kind],
            image_description=scene[view],
            leak=int(kind != "leak_free_query"),
            topic=scene["sub_category"],
            picture=f"{name}-{number}",
            made="harmful" if kind == "harmful_query" else "given",
        )
        for number, scene in enumerate(scenes)
        for view in ("image_description", "paraphrase")
        for kind in ("leaking_query", "leak_free_query", "harmful_query")
    ]


def _situation_pairs(
    writer: str, situations: Sequence[Situation], views: Sequence[str], captions: set[str]
) -> list[LabelledPair]:
    """Every query of a situation with every view of its picture; a view is a family, as of a benchmark.

    The last view is a caption; where a file says `captions = true`, all are but the first.
    """
    return [
        LabelledPair(
            id=f"{writer}-{number}-{view}-{kind}-{place}",
            family=f"{writer}, {view}",
            query=query,
            image_description=shown,
            leak=int(kind == "leaking"),
            topic=situation["sub_category"],
            picture=f"{writer}-{number}",
            writer=writer,
            origin="caption" if view in captions else "author",
        )
        for number, situation in enumerate(situations)
        for view, shown in zip(views, _listed(situation["shown"]), strict=True)
        for kind, queries in _queries_of(situation)
        for place, query in enumerate(_listed(queries))
    ]


def _listed(texts: list[str]) -> list[str]:
    """The texts; one text alone would be read letter by letter."""
    if not isinstance(texts, list):
        raise TypeError(f"no list of texts: {texts!r}")
    return texts


def _queries_of(situation: Situation) -> list[tuple[str, list[str]]]:
    return [
        ("leaking", situation["leaking"]),
        ("leak_free", situation["leak_free"]),
        ("elsewhere", situation.get("elsewhere", [])),
    ]


def object_pairs(path: Path, embedder: Embedder) -> list[LabelledPair]:
    """Plain questions about one thing of each scene: its risky element (leak) or a span far from it (not)."""
    scenes = tomllib.loads(path.read_text())["scene"]
    short = [
        [span for span in image_spans(scene["image_description"]) if len(span.split()) <= OBJECT_WORDS]
        for scene in scenes
    ]
    risks = [[scene["element"], scene["harmful_query"], scene["safety_reason"]] for scene in scenes]
    texts = [text for group in (*short, *risks) for text in group]
    vector_of = dict(zip(texts, embedder.embed(texts), strict=True))
    pairs = []
    for scene, spans, risk in zip(scenes, short, risks, strict=True):
        of_spans, of_risk = (np.stack([vector_of[text] for text in group]) for group in (spans, risk))
        unrelated = [spans[place] for place in (of_spans @ of_risk.T).max(axis=1).argsort()[:2]]
        named = [scene["element"], " ".join(scene["element"].split()[:3])]
        views = (scene["image_description"], scene["paraphrase"])
        for leak, things in ((0, unrelated), (1, named)):
            for view, thing in zip(views, things, strict=False):
                pairs.append(_object_pair(thing, view, leak, scene["sub_category"]))
    return pairs


def _object_pair(thing: str, view: str, leak: int, topic: str) -> LabelledPair:
    identity = pair_id(thing, view)
    query = QUESTIONS[seed_of(identity) % len(QUESTIONS)].format(thing)
    return LabelledPair(
        id=identity, family="objects", query=query, image_description=view, leak=leak, topic=topic
    )


def swapped(pairs: Sequence[LabelledPair], chosen: Callable[[LabelledPair], bool]) -> list[LabelledPair]:
    """The chosen pairs' queries with the image of another pair, of another topic where topics are known."""
    made = []
    for pair in pairs:
        if not chosen(pair):
            continue
        chance = np.random.default_rng(seed_of(pair.id))
        for place in chance.permutation(len(pairs)):
            other = pairs[place]
            different = other.topic != pair.topic if pair.topic else True
            if different and other.image_description not in ("", pair.image_description):
                image = {
                    "image_description": other.image_description,
                    "image": other.image,
                    "origin": other.origin,
                }
                made.append(pair.replace(id=f"{pair.id}-swapped", leak=0, made="swapped", **image))
                break
    return made


def captioned(pairs: Sequence[LabelledPair]) -> list[LabelledPair]:
    """The pairs with their descriptions, where they have one, as a captioning model words them."""
    return [
        pair.replace(image_description=caption_of(pair.image_description))
        if pair.image_description.strip()
        else pair
        for pair in pairs
    ]


def caption_of(description: str) -> str:
    """One description as a caption: an opening, and neutral sentences after; always the same ones."""
    body = " ".join(content_sentences(description)).rstrip(".")
    chance = np.random.default_rng(seed_of(description))
    opening = OPENINGS[chance.integers(len(OPENINGS))]
    after = chance.permutation(NEUTRAL_SENTENCES)[: chance.integers(1, 4)]
    return " ".join([f"{opening} {body[:1].lower()}{body[1:]}.", *after])
