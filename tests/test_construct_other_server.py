"""The LLM stages against a server that others wrote: `transformers serve` on a tiny random model."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from data.llm.cache import ResponseCache
from data.rows import read_rows
from tests.fault_server import FaultServer, serving
from tests.llm_run import profile, run_stages

needs_server = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "transformers")),
    reason="the independent server needs the packages fastapi and uvicorn",
)
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


def build_tiny_model(folder: Path) -> Path:
    """A random Llama with bytes for tokens: it answers in a few letters, and never with sense."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*alphabet, "<end>"])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8192, eos_token_id=[*range(0, len(vocabulary), 2)],
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def independent_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(its URL, the model's name)"""
    model = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    command = [*serve, str(model), "--port", str(port)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, env=offline, stdout=silent, stderr=silent) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}/v1", str(model)
        finally:
            server.kill()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server has ended"
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url):
            return
        time.sleep(0.5)
    raise AssertionError("the server does not answer")


@needs_server
def test_nonsense_from_a_server_of_others_becomes_recorded_failures(
    independent_server: tuple[str, str], tmp_path: Path
) -> None:
    url, model = independent_server
    wanted = {"pairs": 1, "model": model, "max_tokens": 12, "timeout_seconds": 60.0, "workers": 4}
    asked_of_it, reasons = 0, set()
    for before, stage in ([], "elements"), (["elements"], "describe"), (["elements", "describe"], "rewrite"):
        folder = tmp_path / stage
        with serving(FaultServer()) as sensible:
            run_stages(profile(sensible.url, **wanted), folder, before)
            asked_of_it -= sum(sensible.completed.values())
        run_stages(profile(url, **wanted), folder, [stage])
        rows = list(read_rows(folder / f"{stage}.jsonl"))
        assert len(rows) == 19
        assert {row.get("failed") for row in rows} <= {"truncated", "invalid_reply", "empty_reply"}
        cache = ResponseCache(folder / "responses.sqlite")
        asked_of_it += len(cache)
        reasons |= {row["failed"] for row in rows}
        run_stages(profile(url, **wanted), folder, [stage])
        assert len(ResponseCache(folder / "responses.sqlite")) == len(cache)  # remembered, not asked again
    assert asked_of_it > 3 * 19  # invalid replies were sent back
    assert "invalid_reply" in reasons
