"""A key in the environment is in no file, no log line, no error and no page, whatever fails."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from aiohttp import web

from tests.fault_server import FaultServer, serving
from tests.light_run import KEY, finish, write_profile

REPOSITORY = Path(__file__).resolve().parents[1]
FORMS = {KEY, KEY.removeprefix("sk-"), base64.b64encode(KEY.encode()).decode().rstrip("=")[:-2]}


class Gossip(FaultServer):
    """A server that repeats the key it was sent in everything it says of errors."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        said = f"bad request with {request.headers['Authorization']}, api_key={KEY}, headers {dict(request.headers)}"
        mark = crc32(json.dumps(await request.json()).encode())
        if mark % 6 == 0:
            return web.json_response({"error": {"message": said}}, status=400)
        if mark % 6 < 3 and not self.asked[str(mark)]:  # passes: the next try is answered
            self.asked[str(mark)] += 1
            return web.Response(status=[500, 429, 200][mark % 3], text=said, content_type="text/html")
        return await super().handle(request)


@pytest.fixture
def gossip() -> Iterator[FaultServer]:
    with serving(Gossip()) as server:
        yield server


def holders(folder: Path) -> list[str]:
    """The files that hold the key in any form."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(form.encode() in path.read_bytes() for form in FORMS)]


def silent(run: subprocess.CompletedProcess[str]) -> bool:
    return not any(form in run.stdout + run.stderr for form in FORMS)


def test_a_run_with_failures_tells_its_key_to_nobody(gossip: FaultServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    profile = write_profile(tmp_path / "light.toml", gossip.url)
    failed = 0
    for _ in range(2):
        run = finish(profile, folder, "--retry-failed")
        assert silent(run)
        assert run.returncode in (0, 2, 3), run.stderr
        failed += sum(path.read_text().count('"failed"') for path in folder.glob("*.jsonl"))
    assert failed
    assert (folder / "responses.sqlite").exists()
    assert holders(folder) == []


@pytest.mark.parametrize("status", [401, 402, 404])
def test_a_server_that_repeats_the_key_in_its_refusal_is_not_repeated(tmp_path: Path, status: int) -> None:
    class Refuses(FaultServer):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            said = {"error": {"message": f"Incorrect API key provided: {KEY}", "key": KEY}}
            return web.json_response(said, status=status)

    with serving(Refuses()) as server:
        run = finish(write_profile(tmp_path / "light.toml", server.url), tmp_path / "run", "--limit", "2")
    assert silent(run)
    assert holders(tmp_path / "run") == []


def test_an_evaluation_with_failures_tells_its_key_to_nobody(gossip: FaultServer, tmp_path: Path) -> None:
    row = {"instruction": "What next?", "image_path": "", "category": "c", "sub_category": "s", "source": "x",
           "image_description": "d", "safety_reason": "r"}  # fmt: skip
    rows = [row | {"instruction_id": place, "instruction": f"What next {place}?"} for place in range(30)]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-m", "eval.run", "--arch", "openai", "--model", "m", "--judge", "openai:m", "--url",
         gossip.url, "--arms", "text_only", "--data", str(tmp_path / "data.json"), "--out", str(tmp_path / "out"),
         "--timeout", "2"],
        cwd=REPOSITORY, env={**os.environ, "OPENAI_API_KEY": KEY}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert silent(done)
    assert (tmp_path / "out/report.html").exists()
    assert holders(tmp_path / "out") == []
