"""The offline author: the scene bank behind the protocol of a chat model.

It reads the same prompts an API would get and answers in the same JSON. Like a real author it does
not always hide the harm at its first try: for one scene in five its first rewrite is the scene's
leaking query. Told what is wrong it mends most of these; on a few it insists, so that the audit, the
check and the repair loop all have something true to catch. Its checks go by the bank's labels.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable

from construct.offline.scenes import Scene, load_scenes
from data.errors import RowFailed
from data.llm.chat import CHARACTERS_PER_TOKEN, ChatRequest, Completion
from data.records import seed_of

LEAKY_DRAFTS = 5  # one rewrite in this many leaks at first
STUBBORN = 3  # one leaky draft in this many is never mended


class OfflineAuthor:
    """Answers the construction prompts from the scene bank; deterministic, free, instant."""

    model = "scene-bank"

    def __init__(self) -> None:
        scenes = load_scenes()
        self._by_element = {(scene.sub_category, scene.element): scene for scene in scenes}
        self._by_description = {scene.image_description: scene for scene in scenes}
        self._by_query: dict[str, list[Scene]] = {}
        for scene in scenes:
            for query in (scene.harmful_query, scene.leaking_query, scene.leak_free_query):
                self._by_query.setdefault(query, []).append(scene)
        self._replies: dict[str, Callable[[str], object]] = {
            "ElementsReply": self._elements,
            "DescribeReply": self._describe,
            "RewriteReply": self._rewrite,
            "CheckReply": self._check,
            "PairVerdict": self._verify,
        }

    async def complete(self, request: ChatRequest) -> Completion:
        """The bank's answer; a prompt about a scene it does not hold is that row's failure."""
        prompt = request.messages[-1].text
        try:
            text = json.dumps(self._replies[request.schema_name](prompt))
        except KeyError as error:
            raise RowFailed("not_in_scene_bank", f"the offline author knows no scene for {error}") from error
        return Completion(
            text=text, input_tokens=request.tokens(), output_tokens=len(text) // CHARACTERS_PER_TOKEN
        )

    async def close(self) -> None:
        """Nothing is open."""

    def _elements(self, prompt: str) -> object:
        return {"elements": self.elements(prompt)}

    def elements(self, prompt: str) -> list[str]:
        """The sub-category's elements that were not found before, as many as are asked for."""
        sub_category, found = _block(prompt, "sub_category"), set(_block(prompt, "found").split("\n"))
        own = [element for owner, element in self._by_element if owner == sub_category]
        return [element for element in own if element not in found][: count_asked(prompt)]

    def _describe(self, prompt: str) -> object:
        scene = self._by_element[_block(prompt, "sub_category"), _block(prompt, "element")]
        return {
            "image_description": scene.image_description,
            "harmful_query": scene.harmful_query,
            "safety_reason": scene.safety_reason,
            "belongs": True,
        }

    def _rewrite(self, prompt: str) -> object:
        scene = self._by_description[_block(prompt, "image_description")]
        told = scene.leaking_query in _block(prompt, "earlier")
        leaks = insists(scene) or (drafts_leak(scene) and not told)
        return {"instruction": scene.leaking_query if leaks else scene.leak_free_query}

    def _check(self, prompt: str) -> object:
        scene = self._by_description[_block(prompt, "image_description")]
        if _block(prompt, "question") in (scene.harmful_query, scene.leaking_query):
            return {"because": "The words alone tell what is dangerous here.", "verdict": "harmful"}
        return {"because": "An everyday question; the picture gives it its purpose.", "verdict": "good"}

    def _verify(self, prompt: str) -> object:
        """By the bank's texts: the picture itself it does not see, and says so."""
        scene, query = self._by_description[_block(prompt, "image_description")], _block(prompt, "query")
        owners = self._by_query[query]
        matching = scene in owners
        whose = "this scene's" if matching else f"the scene {owners[0].element!r}'s"
        return {
            "why_matching": f"By the scene bank the query is {whose}; the picture was not looked at.",
            "fit": 10 if matching else 0,
            "matching": matching,
            "why_risky": scene.safety_reason,
            "risky": matching,
            "why_text": "By the scene bank's labels.",
            "text_alone_harmful": query == scene.harmful_query,
        }


def count_asked(prompt: str) -> int:
    """How many elements a prompt asks for."""
    return int(re.findall(r"List (\d+) more", prompt)[-1])


def drafts_leak(scene: Scene) -> bool:
    """Whether the author's first rewrite of this scene leaks."""
    return seed_of(scene.image_description) % LEAKY_DRAFTS == 0


def insists(scene: Scene) -> bool:
    """Whether it goes on leaking when told the words."""
    return drafts_leak(scene) and seed_of(scene.image_description, attempt=1) % STUBBORN == 0


def _block(prompt: str, tag: str) -> str:
    """The text a prompt quotes between <tag> and </tag>."""
    match = re.search(rf"<{tag}>\n?(.*?)\n?</{tag}>", prompt, flags=re.DOTALL)
    if match is None:
        raise KeyError(tag)
    return html.unescape(match[1])
