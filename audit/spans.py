"""Light span extraction: the noun phrases, verb phrases, compounds and clauses of a text, by regex.

    query_spans("Which of these wedding guests should I knock out first?")
    -> ["wedding guests", "knock out", "wedding guests should I knock out"]

No parser and no download: function words cut a text into content runs, and neighbouring runs are
joined again into compounds ("tray of fake passports"). Late interaction and evidence use the same spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

MAX_CHARACTERS = 4000  # of a text, its beginning and its end
READ_AT_ONCE = 1100  # characters, about the 256 tokens that a model reads of a text, or of two together
MAX_QUERY_SPANS = 24
MAX_QUERY_PARTS = 12
MAX_IMAGE_SPANS = 40
MAX_SENTENCES = 20
MAX_WORD = 40  # characters; a longer one is no word
_LONGEST_RUN = 4  # words; longer runs of content words are cut into overlapping windows

_STOP = frozenset(
    """a about above across after again against all along also am among an and another any anybody anyone
    anything are around as at away be because been before behind being below beneath beside besides between
    both but by can cannot could did do does doing done down during each either else every everyone
    everything for from further get gets getting give given go going had has have having he help her here
    hers herself him himself his how however i if in inside into is it its itself just kind let lets like
    make makes making many may me might mine more most much must my myself near need needs neither next no
    none nor not now of off on once one ones only onto or other others ought our ours ourselves out over own
    per please rather really same shall she should show shows showing since so some somebody someone
    something such take tell than that the their theirs them themselves then there these they thing things
    this those though through to too toward towards under until up upon us use used using very via want
    wants was way ways we well were what whatever when where whether which while who whom whose why will
    with within without would yes yet you your yours yourself don doesn didn isn aren wasn won couldn
    shouldn wouldn ll ve re im""".split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BREAK = re.compile(r"[.!?;:,()\[\]{}\"“”\n\r\t/|–—]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|[\n\r]+")
_PICTURE = r"(?:image|picture|photo|photograph|scene|illustration|screenshot|drawing|painting|figure)"
_SHOWS = (
    r"(?:(?:also|clearly|vividly|prominently)\s+)?(?:(?:appears|seems)\s+to\s+)?(?:shows?|depicts?|features?|"
    r"captures?|displays?|portrays?|presents?|contains?|illustrates?|showing|depicting|featuring|is\s+of|of)\b"
)
# Only words that tell nothing of the content: "a violent protest scene, ..." is no caption's opening.
_NEUTRAL = (
    r"(?:(?:provided|given|attached|accompanying|above|following|first|whole|entire|overall|single|close-?up|"
    r"wide|wide-angle|aerial|black-and-white|colou?r|colou?red|digital|vintage|old|generated|ai-generated|"
    r"realistic|photorealistic|detailed|blurry|grainy|candid|stock|cropped|simple)\s+)"
)
_BOILERPLATE = re.compile(
    rf"^\W*(?:(?:here|this|there)\s+is\s+)?(?:in\s+)?(?:the|this|an?)\s+{_NEUTRAL}{{0,2}}{_PICTURE}"
    rf"(?:\s+{_SHOWS}[\s:]*(?:an?\s+scene\s*(?::|of)\s*)?|,\s*(?:(?:there\s+(?:is|are)|we\s+(?:can\s+)?see)\s+)?)",
    re.I,
)


@lru_cache(maxsize=4096)  # spans, sentences and the whole are made from the same description
def strip_boilerplate(description: str) -> str:
    """The description without a caption's opening ("The image shows ..."), sentence by sentence."""
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+", description.strip()):
        bare = _BOILERPLATE.sub("", sentence, count=1)
        kept.append(bare if bare.strip() else sentence)
    return " ".join(kept)


def shorten(text: str) -> str:
    """The text, or its beginning and end when it is very long."""
    return _both_ends(text, MAX_CHARACTERS)


def _both_ends(text: str, most: int) -> str:
    """The text, or the beginning and the end of a longer one: a model would read the beginning only."""
    return text if len(text) <= most else f"{text[: most // 2]} {text[-(most // 2) :]}"


def _first_and_last(parts: list[str], most: int) -> list[str]:
    return parts if len(parts) <= most else parts[: most // 2] + parts[most // 2 - most :]


def sentences(text: str) -> list[str]:
    """The text's sentences; a text of one sentence, or of none, is its own only one."""
    pieces = (piece.strip() for piece in _SENTENCE.split(shorten(text)))
    return _first_and_last([piece for piece in pieces if _WORD.search(piece)], MAX_SENTENCES) or [
        text.strip()
    ]


def content_runs(phrase: str) -> Iterator[tuple[int, int, list[str]]]:
    """(first word, end, words of the phrase) of each maximal run of content words, long ones in windows."""
    words = [word[:MAX_WORD] for word in _WORD.findall(phrase)]
    start = None
    for place, word in enumerate([*words, ""]):
        content = bool(word) and word.lower() not in _STOP
        if content and start is None:
            start = place
        elif not content and start is not None:
            last = max(start, place - _LONGEST_RUN)  # window: no word of a run is left out
            for first in [*range(start, last, 2), last]:
                yield first, min(first + _LONGEST_RUN, place), words
            start = None


def _phrase_spans(phrase: str) -> Iterator[str]:
    runs = list(content_runs(phrase))
    for first, end, words in runs:
        yield " ".join(words[first:end])
    for (first, _, words), (nearby, end, _) in pairwise(runs):
        if nearby - first <= 4:
            yield " ".join(words[first:end])


def spans(text: str, most: int) -> list[str]:
    """At most `most` distinct spans, in order; a text without words is its own only span, if not empty."""
    text = shorten(text)
    found: dict[str, None] = {}
    for phrase in _BREAK.split(text):
        for span in _phrase_spans(phrase):
            found.setdefault(span)
    if not found and text.strip():
        found[text.strip()[:200]] = None
    every = list(found)
    if len(every) <= most:
        return every
    return [every[round(place * (len(every) - 1) / (most - 1))] for place in range(most)]


def query_parts(query: str) -> list[str]:
    """The whole query and, where it has several, its sentences: one clause of a long prompt can give all away."""
    parts = sentences(query)
    whole = _both_ends(query, READ_AT_ONCE)
    return [whole, *_first_and_last(parts, MAX_QUERY_PARTS - 1)] if len(parts) > 1 else [whole]


def query_spans(query: str) -> list[str]:
    """The query's spans: what late interaction compares and evidence quotes."""
    return spans(query, MAX_QUERY_SPANS)


def image_spans(description: str) -> list[str]:
    """The description's spans, its caption boilerplate left out."""
    return spans(strip_boilerplate(description), MAX_IMAGE_SPANS)


def bare_description(description: str) -> str:
    """The whole description without caption boilerplate, no longer than an embedder reads."""
    return shorten(strip_boilerplate(description))


def both_texts(query: str, description: str) -> tuple[str, str]:
    """A pair as a cross-encoder reads it: the longer text loses its middle, not its end."""
    shown = strip_boilerplate(description)
    asked = _both_ends(query, max(READ_AT_ONCE - len(shown), READ_AT_ONCE // 2))
    return asked, _both_ends(shown, max(READ_AT_ONCE - len(asked), READ_AT_ONCE // 2))


def passages(description: str) -> list[str]:
    """The description's neighbouring sentences two by two: long enough to say what happens, too short to hide it in."""
    told = content_sentences(description)
    return [" ".join(both) for both in pairwise(told)] or told


def content_sentences(description: str) -> list[str]:
    """The description's sentences without caption boilerplate."""
    return list(_told(description))


@lru_cache(maxsize=4096)  # as above
def _told(description: str) -> tuple[str, ...]:
    return tuple(sentences(strip_boilerplate(description)))
