"""Image-query similarity: the maths against a plain loop, and real (tiny, random) CLIP and SigLIP models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit import likeness
from audit.descriptions import CUT, Content, cautions
from audit.likeness import Likeness
from data.errors import UserError
from data.llm.cache import ResponseCache
from tests.drawn import broken, scene

QUERIES = ["a kite over a beach", "two dogs below it", "a lamp near the red box", "where is the dog?",
           "children run below it", "the kite and the lamp", "a kite over a beach", "is it noon?"]  # fmt: skip


def unit(rows: np.ndarray) -> likeness.Floats:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_centring_takes_off_what_all_have_in_common() -> None:
    chance = np.random.default_rng(0)
    gap = np.array([5.0, 0, 0, 0])
    centred = likeness.centred(unit(chance.normal(size=(40, 4)) + gap))
    assert np.allclose(np.linalg.norm(centred, axis=1), 1, atol=1e-5)
    assert abs(float((centred @ centred.T).mean())) < 0.05
    same = np.repeat(unit(chance.normal(size=(1, 4))), 9, axis=0)
    assert not likeness.centred(same).any()  # and not rounding noise blown up to length one


def test_z_is_how_far_the_own_picture_stands_out_from_the_others() -> None:
    chance = np.random.default_rng(1)
    queries, images = unit(chance.normal(size=(5, 8))), unit(chance.normal(size=(12, 8)))
    own = np.array([0, 3, 3, 11, 7])
    cosine, z = likeness.image_query_z(queries, images, own, np.arange(12))
    for row, at in enumerate(own):
        others = [float(queries[row] @ images[other]) for other in range(12) if other != at]
        assert cosine[row] == pytest.approx(float(queries[row] @ images[at]), abs=1e-6)
        expected = (float(queries[row] @ images[at]) - np.mean(others)) / np.std(others)
        assert z[row] == pytest.approx(expected, abs=1e-3)
    _, picked = likeness.image_query_z(queries, images, own, np.arange(0, 12, 2))
    assert np.isfinite(picked).all()


def test_z_is_unknown_with_few_others_and_zero_where_nothing_differs() -> None:
    images = unit(np.random.default_rng(2).normal(size=(6, 4)))
    query = images[:1]
    few = likeness.LEAST_OTHERS
    assert np.isnan(likeness.image_query_z(query, images[:few], np.array([0]), np.arange(few))[1]).all()
    assert np.isfinite(likeness.image_query_z(query, images, np.array([0]), np.arange(6))[1]).all()
    _, alike = likeness.image_query_z(np.zeros_like(query), images, np.array([0]), np.arange(6))
    assert alike.tolist() == [0.0]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers")
    from tests.tiny_diffusion import save_similarity

    return save_similarity(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(len(QUERIES))]
    for number, path in enumerate(paths):
        scene(number).save(path)
    return paths


def test_a_model_gives_the_figures_that_its_own_features_give(model: Path, pictures: list[Path]) -> None:
    from data.image_embedder import load_image_embedder

    alike = Likeness(str(model), ResponseCache(":memory:")).measure(QUERIES, pictures)
    embedder = load_image_embedder(str(model))
    shown = likeness.centred(embedder.embed_images(pictures))
    distinct = list(dict.fromkeys(QUERIES))
    vectors, cut = embedder.embed_texts(distinct)
    asked = likeness.centred(vectors)[[distinct.index(query) for query in QUERIES]]
    own = np.arange(len(QUERIES))
    z = likeness.image_query_z(asked, shown, own, own)[1]
    assert not cut.any()
    assert [each.z for each in alike] == pytest.approx(z.tolist(), abs=0.05)  # vectors are kept in float16
    assert len({each.z for each in alike}) == len(QUERIES)


def test_a_second_audit_loads_no_model(
    model: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite")
    first = Likeness(str(model), cache).measure(QUERIES, pictures)
    monkeypatch.setattr("data.image_embedder.ImageEmbedder.__init__", lambda *_: pytest.fail("it was loaded"))
    assert Likeness(str(model), cache).measure(QUERIES, pictures) == first


def test_a_query_that_is_too_long_is_compared_and_said_to_be_cut(model: Path, pictures: list[Path]) -> None:
    queries = ["a kite over a beach " * 40, *QUERIES[1:]]
    alike = Likeness(str(model), ResponseCache(":memory:")).measure(queries, pictures)
    assert [each.note for each in alike] == [CUT, *[""] * 7]
    assert alike[0].z is not None
    (caution,) = cautions([Content(note=each.note) for each in alike])
    assert caution.startswith("In 1 row the query is longer")


def test_what_cannot_be_compared_says_why(model: Path, pictures: list[Path], tmp_path: Path) -> None:
    paths = [*pictures, broken(tmp_path / "broken.png"), None, pictures[0]]
    queries = [*QUERIES, "a broken one", "none", " "]
    alike = Likeness(str(model), ResponseCache(":memory:")).measure(queries, paths)
    assert [each.z is None for each in alike] == [*[False] * 8, True, True, True]
    assert "cannot be read" in alike[8].note
    assert alike[10].note == "not compared: the query is empty"
    few = Likeness(str(model), ResponseCache(":memory:")).measure(QUERIES[:3], pictures[:3])
    assert {(each.z, each.note) for each in few} == {(None, "not compared: too few different queries")}
    same = Likeness(str(model), ResponseCache(":memory:")).measure(["Describe it."] * 8, pictures)
    assert {(each.z, each.note) for each in same} == {(None, "not compared: too few different queries")}
    one = Likeness(str(model), ResponseCache(":memory:")).measure(QUERIES, [pictures[0]] * len(QUERIES))
    assert {(each.z, each.note) for each in one} == {(None, "not compared: too few other pictures")}


def test_copies_of_a_picture_count_once(model: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes(pictures[0].read_bytes())
    cache = ResponseCache(":memory:")
    alike = Likeness(str(model), cache).measure(QUERIES, pictures)
    more = Likeness(str(model), cache).measure([*QUERIES, QUERIES[0]], [*pictures, tmp_path / "copy.png"])
    assert [each.z for each in more] == pytest.approx([each.z for each in [*alike, alike[0]]], abs=1e-4)


def test_a_model_that_is_none_is_one_sentence(tmp_path: Path, pictures: list[Path]) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Likeness(str(tmp_path / "nowhere"), ResponseCache(":memory:")).measure(QUERIES, pictures)
