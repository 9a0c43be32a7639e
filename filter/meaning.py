"""Texts that ask nothing: empty, broken, placeholders, refusals. Plain rules, no model; in doubt a text passes."""

from __future__ import annotations

import re
from collections import Counter

LONGEST = 2000  # characters; no query of a benchmark comes near
FEWEST_LETTERS = 4
DENSE = "\u0590"  # from Hebrew on, letters often stand for a syllable or a word: each counts as two
PLACEHOLDER = re.compile(
    r"(?<!\w)\$\{?[A-Za-z_]\w*\}?|\{\{.*?\}\}|\{\w+\}"  # $500 is none
    r"|<(?:image|img|placeholder|query|text|insert)[^>]*>|\[(?:insert|your|image|query)\b[^\]]*\]"
    r"|\blorem ipsum\b|^\W*(?:todo|tbd|n/a|none|null|nan|undefined)\W*$",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:very )?sorry|sorry,|as an ai\b|i apologi[sz]e"
    r"|i (?:cannot|can['’]?t|can not|am unable to|won['’]?t) "
    r"(?:help|assist|fulfil|comply|provide|create|do|rewrite))",
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
ASKS = re.compile(r"[?？؟][\W_]*$")
OFFER = re.compile(r"\b(?:help|assist) you\b|\bwould you like\b", re.IGNORECASE)  # how refusals end
FEWEST_BROKEN = 3  # words; one or two may be names or abbreviations


def fault_of_text(text: str) -> str | None:
    """Why a query means nothing, or None. Judges spelling by Latin letters only."""
    words = [word.lower() for word in WORD.findall(text)]
    if sum(1 + (letter >= DENSE) for word in words for letter in word) < FEWEST_LETTERS:
        return "there are hardly any letters in it"
    if len(text) > LONGEST:
        return f"{len(text)} characters are no query"
    if placeholder := PLACEHOLDER.search(text.strip()):
        return f"a placeholder is left in it: {placeholder[0][:40]}"
    if REFUSAL.match(text) and (OFFER.search(text) or not ASKS.search(text)):
        return "it is a refusal, not a query"
    if "\N{REPLACEMENT CHARACTER}" in text:
        return "letters were lost to a wrong encoding"
    return _fault_of_words(words)


def same_words(text: str, other: str) -> float:
    """0 to 1: the share of words two texts have in common, counted as often as they occur."""
    mine, theirs = (Counter(word.lower() for word in WORD.findall(each)) for each in (text, other))
    longer = max(mine.total(), theirs.total())
    return (mine & theirs).total() / longer if longer else 0.0


def _fault_of_words(words: list[str]) -> str | None:
    common, times = Counter(words).most_common(1)[0]
    if len(words) >= 4 and times > len(words) / 2:
        return f"it repeats one word: {common}"
    latin = [word for word in words if word.isascii() and len(word) >= 4]
    broken = [word for word in latin if not set("aeiouy") & set(word)]
    if len(broken) >= FEWEST_BROKEN and len(broken) * 2 >= len(latin):
        return f"most of its words are none: {', '.join(broken[:3])}"
    return None
