"""Embedders that users bring as folders, and those that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
