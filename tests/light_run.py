"""The whole pipeline as `construct.run` conducts it, an LLM server of ours and no model: what tests break.

`python -m tests.light_run --profile FILE.toml --run FOLDER` takes the options of `construct.run`; embedder,
auditor and generator are stand-ins that load in no time. `write_profile` makes the FILE.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL.Image import Image

import construct.conductor
from construct.run import main
from data.errors import run_cli
from data.records import Audit, Span
from tests.llm_run import LightWorkshop
from tests.small_run import drawing

REPOSITORY = Path(__file__).resolve().parents[1]
KEY = "sk-marked-key-0123456789"  # what every test run has in its environment, and no file may ever hold
PROFILE = """
[author]
kind = "openai"
model = "m"
base_url = "{url}"
key_variable = "TEST_KEY"
timeout_seconds = 2.0
workers = {workers}
input_price = 1.0
output_price = 2.0

[mllm]
kind = "openai"
model = "m"
base_url = "{url}"
key_variable = "TEST_KEY"
timeout_seconds = 2.0
workers = {workers}
input_price = 1.0
output_price = 2.0

[elements]
per_sub_category = {pairs}

[draw]
generator = "sketch"

[audit]
embedder = "minilm"

[filter]
read_pictures = "off"

[balance]
size = 500

[benchmark]
name = "Light benchmark"
"""


class LightAuditor:
    """Leakage by the hash of the query: one in eight leaks."""

    def score(
        self, queries: Sequence[str], descriptions: Sequence[str | None], origins: Sequence[str] | None = None
    ) -> list[Audit]:
        return [_audit(query) for query in queries]


def _audit(query: str) -> Audit:
    leaks = int(hashlib.sha256(query.encode()).hexdigest()[:4], 16) % 8 == 0
    spans = (Span(text=query[:20], weight=0.5),)
    return Audit(leakage=0.9 if leaks else 0.1, text_harm=0.1, p_value=0.01 if leaks else 0.6, leaks=leaks,
                 query_spans=spans, image_spans=spans, content_from="author")  # fmt: skip


class Boxes:
    """A generator of coloured boxes, another picture for every seed."""

    name = "boxes"

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        time.sleep(float(os.environ.get("SECONDS_A_PICTURE", "0")) * len(seeds))
        return [drawing(seed, 128) for seed in seeds]


class WholeLightWorkshop(LightWorkshop):
    """A workshop in which nothing takes long to load."""

    @cached_property
    def auditor(self) -> LightAuditor:  # type: ignore[override]
        return LightAuditor()

    @cached_property
    def generator(self) -> Boxes:  # type: ignore[override]
        return Boxes()


def write_profile(path: Path, url: str, pairs: int = 2, workers: int = 8) -> Path:
    """A profile that has the server at `url` write `pairs` pairs for each of the 19 sub-categories."""
    path.write_text(PROFILE.format(url=url, pairs=pairs, workers=workers))
    return path


def light_run(profile: Path, folder: Path, *more: str, **options: Any) -> subprocess.Popen[str]:
    """The run as a process of its own, its output to be read."""
    command = [
        sys.executable,
        "-m",
        "tests.light_run",
        "--profile",
        str(profile),
        "--run",
        str(folder),
        *more,
    ]
    surroundings = {**os.environ, "TEST_KEY": KEY, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=surroundings, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def finish(profile: Path, folder: Path, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The run to its end."""
    run = light_run(profile, folder, *more, **options)
    out, said = run.communicate(timeout=120)
    return subprocess.CompletedProcess(run.args, run.returncode, out, said)


if __name__ == "__main__":
    construct.conductor.Workshop = WholeLightWorkshop  # type: ignore[attr-defined]
    run_cli(main)
