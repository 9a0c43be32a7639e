"""Embedders that users bring as folders, and those that are not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audit.embedding_cache import CachedEmbedder
from data.embedders import SentenceEmbedder
from data.errors import UserError


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without layers: a table of token vectors, as model2vec makes them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "kite": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("static")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)]).save(str(folder))
    return folder


def test_a_model_without_layers_embeds_and_says_that_it_has_none(static: Path) -> None:
    embedder = SentenceEmbedder(f"st:{static}", str(static))
    vectors = embedder.embed(["red kite", "kite", "red kite"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    assert (vectors[0] == vectors[2]).all() and (vectors[0] != vectors[1]).any()
    with pytest.raises(UserError, match="no layers"):
        embedder.layers(["kite"])


@pytest.mark.parametrize("name", ["typo-folder", "./typo", "models/typo", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    code = f"from data.embedders import *\nfrom data.errors import run_cli\nrun_cli(lambda: load_embedder('st:{name}'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: Cannot load the embedder st:{name}: there is no folder {name}.\n"


def test_what_is_kept_of_a_model_serves_no_other_tokenizer_and_no_other_commit(
    static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(static, tmp_path / "model")
    before = SentenceEmbedder("st:model", str(folder))
    assert before.revision == SentenceEmbedder("st:model", str(static)).revision
    (tokenizer,) = folder.rglob("tokenizer.json")
    words = json.loads(tokenizer.read_text())
    words["model"]["vocab"] |= {"red": 2, "kite": 1}
    tokenizer.write_text(json.dumps(words))
    after = SentenceEmbedder("st:model", str(folder))
    assert (before.embed(["kite"]) != after.embed(["kite"])).any()
    assert before.revision != after.revision

    download = tmp_path / "hub/models--own--er"
    for commit in ("abc", "def"):
        (download / "snapshots" / commit).mkdir(parents=True)
        (download / "snapshots" / commit / "config.json").write_text("{}")
    (download / "refs").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for commit in ("abc", "def"):
        (download / "refs/main").write_text(commit)
        of_the_hub = SentenceEmbedder("st:own/er", str(static))
        of_the_hub.path = "own/er"
        assert of_the_hub.revision == commit


def test_a_damaged_file_of_embeddings_is_one_sentence(static: Path, tmp_path: Path) -> None:
    embedder = SentenceEmbedder("st:model", str(static))
    texts = [f"kite {number}" for number in range(3000)]
    with CachedEmbedder(embedder, tmp_path, fast=False) as cached:
        cached.embed(texts)
    (file,) = tmp_path.glob("*.sqlite")
    content = file.read_bytes()
    middle = slice(8192, 8192 + len(content) // 2)
    file.write_bytes(
        content[: middle.start] + b"\xff" * (middle.stop - middle.start) + content[middle.stop :]
    )
    with (
        CachedEmbedder(embedder, tmp_path, fast=False) as cached,
        pytest.raises(UserError, match="--no-cache"),
    ):
        cached.embed(texts)
