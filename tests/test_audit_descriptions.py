"""What an audit knows of pictures: given, read, captioned or unknown; nothing is guessed, paid twice or clean."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from audit import eyes
from audit.descriptions import ONLY_WORDS, Content, cautions, describe, problems_of
from data.decoding import AHEAD, ahead, decoded_ahead, in_colour
from data.errors import RowFailed, UserError
from data.sources.reader import read_source
from data.sources.source_rows import Source
from tests.drawn import broken, scene, typeset, with_sign
from tests.openai_server import Answer, completion, failure, serve

SAYS_CAPTION = json.dumps({"caption": "A man carries a crate of bread."})


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Seven rows: described, typeset, a scene with a sign, a scene, a broken picture, none, no query."""
    typeset("Steps to bake", "a loaf of bread.").save(tmp_path / "typeset.png")
    with_sign(scene(1), "BAKERY").save(tmp_path / "sign.png")
    scene(2).save(tmp_path / "scene.jpg")
    broken(tmp_path / "broken.png")
    rows = [
        {"id": "given", "query": "q", "image_description": "A loaf.", "image": "scene.jpg"},
        {"id": "typeset", "query": "q", "image": "typeset.png"},
        {"id": "sign", "query": "q", "image": "sign.png"},
        {"id": "scene", "query": "q", "image": "scene.jpg"},
        {"id": "broken", "query": "q", "image": "broken.png"},
        {"id": "lost", "query": "q", "image": "lost.png"},
        {"id": "silent", "query": "", "image": "sign.png"},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    return read_source(str(tmp_path / "rows.json"))


@pytest.fixture
def read_cache(source: Source, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the words of `source`'s pictures are known: reading them takes seconds."""
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    kept = tmp_path_factory.getbasetemp() / "read-words"
    if not kept.exists():
        contents(source, kept)
    return Path(shutil.copytree(kept, tmp_path / "cache"))


def flags(cache: Path, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    eyes.add_flags(parser)
    return parser.parse_args(["--cache", str(cache), *given])


def contents(source: Source, cache: Path, *given: str) -> dict[str, Content]:
    arguments = flags(cache, *given)
    eyes.check(arguments)
    with eyes.opened(arguments) as open_eyes:
        described = describe(source.rows, open_eyes, problems_of(source))
    return {row.id: content for row, content in zip(source.rows, described, strict=True)}


def captioner(url: str) -> tuple[str, ...]:
    return "--captioner", "viewer", "--captioner-url", url


def seen_pictures(bodies: list[dict[str, Any]]) -> list[str]:
    """The SHA-256 of every picture that a server was shown."""
    urls = [part["image_url"]["url"] for body in bodies for part in body["messages"][-1]["content"][:1]]
    return [hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest() for url in urls]


def test_a_description_comes_before_words_and_words_before_a_caption(
    source: Source, read_cache: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openai")
    with serve(lambda _: completion(SAYS_CAPTION)) as server:
        found = contents(source, read_cache, *captioner(server.url))
    assert {name: content.origin for name, content in found.items()} == {
        "given": "author", "typeset": "ocr", "sign": "caption", "scene": "caption",
        "broken": None, "lost": None, "silent": None,
    }  # fmt: skip
    assert found["given"].text == "A loaf."
    assert found["given"].made is None
    assert found["typeset"].text == found["typeset"].made == "Steps to bake a loaf of bread."
    assert found["scene"].text == found["scene"].made == "A man carries a crate of bread."
    assert found["broken"].missing == "its picture cannot be read"
    assert found["lost"].missing == "no description, and its image file is not there"
    files = (tmp_path / "sign.png", tmp_path / "scene.jpg")
    shown = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert set(seen_pictures(server.seen)) == shown
    assert len(server.seen) == 2


def test_no_caption_is_paid_for_before_every_flag_is_checked(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with serve(lambda _: completion(SAYS_CAPTION)) as server:
        for wrong in (
            ["--engine", "nosuch"],
            ["--actors", "3"],
            ["--image-similarity", str(tmp_path / "none")],
        ):
            command = [sys.executable, "-m", "audit.run", source.name, "--no-cache", "--ocr", "off", *wrong]
            command += [*captioner(server.url), "--out", str(tmp_path / "out")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 2, done.stderr
    assert not server.seen


def test_a_second_audit_asks_and_reads_nothing(
    source: Source, read_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    with serve(lambda _: completion(SAYS_CAPTION)) as server:
        first = contents(source, read_cache, *captioner(server.url))
        asked = len(server.seen)
        monkeypatch.setattr("data.ocr.WordReader.__init__", _must_not_load)
        again = contents(source, read_cache, *captioner(server.url))
        assert len(server.seen) == asked
    assert again == first


def _must_not_load(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded for pictures that had all been seen")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: completion("", refusal="I cannot describe this."), "refused"),
        (lambda _: completion("I'm sorry, but I can't help with that."), "refused"),
        (lambda _: completion(json.dumps({"caption": "  "})), "empty_reply"),
        (lambda _: completion("", finish_reason="content_filter"), "blocked"),
        (lambda _: failure(400), "bad_request"),
    ],
)
def test_a_failed_caption_says_why_and_is_no_clean_row(
    source: Source, read_cache: Path, answer: Answer, reason: str
) -> None:
    pytest.importorskip("openai")
    with serve(answer) as server:
        found = contents(source, read_cache, *captioner(server.url))
    assert found["scene"].text is None
    assert found["scene"].missing == f"its caption failed ({reason})"
    assert found["sign"] == Content("BAKERY", "ocr", note=f"{ONLY_WORDS}; its caption failed ({reason})")


def test_a_refusal_is_remembered_until_it_is_asked_for_again(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    refusing = True

    def answer(_: dict[str, Any]) -> Any:
        return completion("", refusal="No.") if refusing else completion(SAYS_CAPTION)

    with serve(answer) as server:
        given = ("--ocr", "off", *captioner(server.url))
        contents(source, tmp_path / "cache", *given)
        refusing, asked = False, len(server.seen)
        assert contents(source, tmp_path / "cache", *given)["scene"].missing == "its caption failed (refused)"
        assert len(server.seen) == asked
        assert contents(source, tmp_path / "cache", "--retry-failed", *given)["scene"].origin == "caption"


def test_a_server_that_is_not_there_ends_in_one_sentence(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with pytest.raises(UserError, match="No server answers"):
        contents(source, tmp_path / "cache", "--ocr", "off", *captioner("http://127.0.0.1:9/v1"))


def test_without_a_captioner_a_sign_is_read_and_said_to_be_all_that_is_known(
    source: Source, read_cache: Path
) -> None:
    found = contents(source, read_cache)
    assert found["typeset"] == Content("Steps to bake a loaf of bread.", "ocr")
    assert found["sign"] == Content("BAKERY", "ocr", note=ONLY_WORDS)
    assert found["scene"].text is None
    assert "no words can be read" in found["scene"].missing
    assert "--captioner" in found["scene"].missing
    (caution,) = cautions(list(found.values()))
    assert caution.startswith("In 1 row only the words")


def test_without_eyes_a_picture_stays_unknown_and_says_so(source: Source, tmp_path: Path) -> None:
    found = contents(source, tmp_path / "cache", "--ocr", "off")
    for name in ("typeset", "sign", "scene"):
        assert found[name].text is None
        assert "OCR is off" in found[name].missing
    assert found["given"].origin == "author"


def test_ocr_that_is_wanted_and_not_there_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    monkeypatch.setattr("data.ocr.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"\.\[ocr\]"):
        contents(source, tmp_path / "cache", "--ocr", "on")
    assert "rapidocr is not installed" in contents(source, tmp_path / "cache")["scene"].missing


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--captioner-url", "http://127.0.0.1:9/v1"), "--captioner"),
        (("--captioner", "hf:x", "--captioner-url", "http://127.0.0.1:9/v1"), "--captioner"),
        (("--image-root", "nowhere"), "nowhere"),
        (("--captioner", "viewer", "--pickled-weights"), "hf:FOLDER_OR_ID"),
        (("--ocr", "off", "--captioner", "hf:./nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(
    source: Source, tmp_path: Path, given: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        contents(source, tmp_path / "cache", *given)


def test_a_local_model_captions_and_is_not_loaded_for_what_it_has_seen(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from tests import tiny_vlms

    given = ("--ocr", "off", "--captioner", f"hf:{tiny_vlms.make('auto', tmp_path / 'vlm')}")
    first = contents(source, tmp_path / "cache", *given)
    assert {first[name].origin for name in ("typeset", "sign", "scene")} == {"caption"}
    assert len({first[name].text for name in ("typeset", "sign", "scene")}) == 3  # it looked at each
    assert first["broken"].missing == "its caption failed (unreadable_image)"
    monkeypatch.setattr("data.hub_models.load_hub_model", _must_not_load)
    assert contents(source, tmp_path / "cache", *given) == first


def test_a_trusted_captioner_may_be_pickled_as_its_error_says(source: Source, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import torch
    from safetensors.torch import load_file

    from tests import tiny_vlms

    folder = tiny_vlms.make("auto", tmp_path / "vlm")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    given = ("--ocr", "off", "--captioner", f"hf:{folder}")
    with pytest.raises(UserError, match="add --pickled-weights"):
        contents(source, tmp_path / "cache", *given)
    seen = contents(source, tmp_path / "cache", *given, "--pickled-weights")
    assert seen["scene"].origin == "caption"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_read_as_they_look(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "tif", "I;16": "tif"}.get(mode, "png")
    page = Image.new("L", (64, 64), 255)
    page.paste(0, (0, 0, 32, 64))
    if mode in ("RGBA", "LA"):
        clear = Image.new(mode, page.size, (0,) * len(mode))  # black, and all of it transparent
        clear.paste(Image.new(mode, (32, 64), (0,) * (len(mode) - 1) + (255,)), (0, 0))
        clear.save(tmp_path / f"page.{suffix}")
    elif mode == "I;16":
        Image.fromarray(_sixteen_bits(page)).save(tmp_path / f"page.{suffix}")
    else:
        page.convert(mode).save(tmp_path / f"page.{suffix}")
    looked = in_colour(tmp_path / f"page.{suffix}", 10_000)
    assert (looked.mode, looked.size) == ("RGB", (64, 64))
    left, right = looked.getpixel((8, 8)), looked.getpixel((56, 8))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert max(left) < 16
    assert min(right) > 239


def _sixteen_bits(page: Image.Image) -> Any:
    import numpy as np

    return np.asarray(page, np.uint16) * 257


def test_large_pictures_are_made_smaller_and_bad_ones_are_a_reason(tmp_path: Path) -> None:
    scene(1, (800, 200)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "evil.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    paths = [tmp_path / name for name in ("large.png", "text.png", "evil.png", "none.png")]
    large, *others = [picture for _, picture in decoded_ahead([*paths, broken(tmp_path / "b.png")], 40_000)]
    assert isinstance(large, Image.Image)
    assert large.size == (400, 100)
    assert [each.reason for each in others if isinstance(each, RowFailed)] == ["unreadable_image"] * 4


def test_work_ahead_is_bounded_ordered_and_ends_with_its_reader() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            begun.append(number)
        return number

    results = ahead(work, range(1000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(begun) <= 5 + AHEAD
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 5 + AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


Draw = Callable[[], Image.Image]


@pytest.mark.parametrize(
    ("draw", "words", "all_there_is"),
    [
        (lambda: typeset("Bread"), "Bread", True),
        (lambda: typeset("How to fly", "a kite at night"), "How to fly a kite at night", True),
        (lambda: with_sign(scene(4), "EXIT"), "EXIT", False),
        (lambda: scene(5), "", False),
        (lambda: Image.new("RGB", (300, 200), "white"), "", False),
        (lambda: typeset("1. 2. 3."), "1.2.3.", False),
        (lambda: typeset("a kite").crop((0, 30, 640, 100)).resize((2560, 70)), None, None),
        (lambda: Image.new("RGB", (3000, 3), "white"), "", False),
        (lambda: Image.new("RGB", (1, 1), "white"), "", False),
    ],
)
def test_words_are_read_and_it_is_known_whether_they_are_all_there_is(
    word_reader: Any, draw: Draw, words: str | None, all_there_is: bool | None
) -> None:
    from audit.descriptions import _says_all

    reading = word_reader.read(draw())
    if words is not None:
        assert reading.text == words
        assert _says_all(reading) is all_there_is
    assert 0 <= reading.share <= 1
    assert 0 <= reading.plain <= 1


@pytest.fixture(scope="module")
def word_reader() -> Any:
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    from data.ocr import WordReader

    return WordReader()
