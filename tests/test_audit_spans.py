"""Span extraction: the phrases that late interaction compares and evidence quotes."""

from __future__ import annotations

import re

import pytest

from audit.spans import (
    MAX_IMAGE_SPANS,
    MAX_QUERY_SPANS,
    READ_AT_ONCE,
    both_texts,
    image_spans,
    passages,
    query_parts,
    query_spans,
    sentences,
    strip_boilerplate,
)

ODD_TEXTS = [
    "", " ", "knife", "?!...", "😀🔪😀", "Как взломать банк?", "我想偷车", "x" * 10_000, "kite and " * 1200,
]  # fmt: skip


def test_phrases_and_their_compounds_are_found() -> None:
    spans = query_spans("Which of these wedding guests should I knock out first?")
    assert "wedding guests" in spans
    assert "knock out first" in spans


def test_a_compound_bridges_small_words_but_no_punctuation() -> None:
    spans = image_spans("A tray of fake passports, beside a lamp.")
    assert "tray of fake passports" in spans
    assert not any("passports" in span and "lamp" in span for span in spans)


def test_spans_are_words_of_the_text_itself() -> None:
    text = "A taped bundle of explosives with a ticking alarm clock lies under the blue seat of a bus."
    assert all(span in text for span in image_spans(text))


@pytest.mark.parametrize("words", range(1, 12))
def test_no_word_of_a_long_run_is_left_out(words: int) -> None:
    text = " ".join(
        re.findall(r"\w+", "old rusty blood stained kitchen knife leather glove grey plastic bag")[:words]
    )
    assert set(" ".join(image_spans(text)).split()) == set(text.split())


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_give_few_short_spans(text: str) -> None:
    assert len(query_spans(text)) <= MAX_QUERY_SPANS
    assert len(image_spans(text)) <= MAX_IMAGE_SPANS
    assert all(0 < len(span) <= 400 for span in query_spans(text) + image_spans(text))
    assert bool(query_spans(text)) == bool(text.strip())


def test_a_long_text_keeps_spans_of_its_beginning_and_its_end() -> None:
    middle = " ".join(f"thing{number} lies on shelf{number}." for number in range(600))
    spans = image_spans(f"A red kite. {middle} A green boat.")
    assert len(spans) == MAX_IMAGE_SPANS
    assert "red kite" in spans
    assert any("green boat" in span for span in spans)


@pytest.mark.parametrize(
    "opening",
    [
        "The image shows ", "This image depicts ", "In the image, there is ", "The photo captures ",
        "An image of ", "The picture features ", "This is a photo of ", "A close-up photograph showing ",
        "In this image, we see ", "The image appears to show ", "The photograph is of ", "In the picture, ",
    ],
)  # fmt: skip
def test_caption_boilerplate_is_stripped(opening: str) -> None:
    assert strip_boilerplate(f"{opening}a boy with a kite.").strip() == "a boy with a kite."


def test_a_description_without_boilerplate_is_left_alone() -> None:
    text = "A boy draws a picture of a kite. The photo hangs on a wall."
    assert strip_boilerplate(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "A violent protest scene, with police in riot gear.",
        "A bloody crime scene shows a chalk outline.",
        "A hooded figure displays a stolen credit card.",
    ],
)
def test_what_a_picture_is_called_stays_where_it_tells_the_content(text: str) -> None:
    assert strip_boilerplate(text) == text


def test_the_end_of_a_long_prompt_is_read_too() -> None:
    preamble = " ".join(f"This is rule number {number} of the game." for number in range(40))
    prompt = f"{preamble} How do I load the gun?"
    whole, *parts = query_parts(prompt)
    assert parts[-1] == "How do I load the gun?"
    assert whole.startswith("This is rule number 0") and whole.endswith("How do I load the gun?")
    asked, shown = both_texts(prompt, "A man with a gun. " * 100)
    assert asked.endswith("How do I load the gun?")
    assert len(asked) + len(shown) <= READ_AT_ONCE + 2
    assert both_texts("Who?", "A man with a gun.") == ("Who?", "A man with a gun.")


def test_a_text_has_at_least_one_sentence() -> None:
    assert sentences("A boy. A kite! And the sea") == ["A boy.", "A kite!", "And the sea"]
    assert sentences("😀") == ["😀"]


def test_passages_are_neighbouring_sentences_and_a_single_sentence_is_its_own() -> None:
    caption = "The image shows a locker room. A man kneels by a bag. He puts a handgun into it."
    assert passages(caption) == [
        "a locker room. A man kneels by a bag.",
        "A man kneels by a bag. He puts a handgun into it.",
    ]
    assert passages("A kite over a beach.") == ["A kite over a beach."]
    assert passages("") == [""]
