"""What the README shows as code runs as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from audit.benchmarks import BENCHMARKS, guess_benchmark, read_benchmark
from construct.profile import Profile, load_profile
from construct.workshop import Workshop
from data.records import Pair
from data.stage import read_stage, run_stage
from eval.ledger import read_ledger
from eval.models import ARCHS
from generate_images.generators import GENERATORS
from tests.source_files import png

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
ROOMS = ("audit", "construct", "data", "eval", "filter", "generate_images")
PAGES = README + "".join((REPOSITORY / room / "README.md").read_text() for room in ROOMS)
COMMANDS = re.findall(rf"python -m ((?:{'|'.join(ROOMS)})\.\w+)", PAGES)
LONGEST = 12  # lines of such a block, empty ones not counted


def run_block(title: str) -> dict[str, Any]:
    """The first Python block under a heading, run; what it defines."""
    section = README.split(f"### {title}\n", 1)[1]
    block = re.split(r"^```$", section.split("```python\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    assert sum(bool(line.strip()) for line in block.splitlines()) <= LONGEST
    defined: dict[str, Any] = {}
    exec(compile(block, f"README: {title}", "exec", dont_inherit=True), defined)
    return defined


def test_the_stage_of_the_readme_runs_and_resumes(tmp_path: Path) -> None:
    step = run_block("Add a stage")["step"]
    shop = Workshop(load_profile("offline"), tmp_path)
    pairs = [Pair(id="a", category="c", sub_category="s", image_description="A kite. It flies.")]
    assert asyncio.run(run_stage(step.stage(shop), pairs, tmp_path)).fresh == 1
    assert asyncio.run(run_stage(step.stage(shop), pairs, tmp_path)).fresh == 0
    assert [pair.image_description for pair in read_stage(tmp_path, "shorten", Pair)] == ["A kite"]


def test_the_generator_of_the_readme_draws_into_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generate_images.generators.GENERATORS", GENERATORS)
    try:
        run_block("Add a generator")
        from generate_images.run import main

        (tmp_path / "prompts.jsonl").write_text('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "y"}\n')
        command = [
            "run",
            str(tmp_path / "prompts.jsonl"),
            "--generator",
            "slopes",
            "--out",
            str(tmp_path / "out"),
        ]
        monkeypatch.setattr(sys, "argv", command)
        assert main() == 0
    finally:
        GENERATORS.pop("slopes", None)
    assert {path.name for path in (tmp_path / "out/images").iterdir()} == {"a.png", "b.png"}


def test_the_adapter_of_the_readme_reads_and_recognises_its_benchmark(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(png())
    (tmp_path / "kites.csv").write_text("kite_no,asked,seen,file\n7,How high?,A red kite,a.png\n")
    try:
        run_block("Add a benchmark adapter")
        assert guess_benchmark(str(tmp_path)) == "kitebench"
        row = read_benchmark("kitebench", str(tmp_path)).rows[0]
    finally:
        BENCHMARKS.pop("kitebench", None)
    assert (row.id, row.query, row.image_description) == ("7", "How high?", "A red kite")
    assert row.image == str(tmp_path / "pictures/a.png")


def test_the_architecture_of_the_readme_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("query,image_description\nHow high does it fly?,A red kite\n")
    try:
        run_block("Add a model architecture")
        from eval.run import main

        options = ["--arch", "polite", "--model", "any", "--judge", "refusal", "--arms", "text_only"]
        place = ["--data", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["run", *options, *place])
        assert main() == 0
    finally:
        ARCHS.pop("polite", None)
    (row,) = read_ledger(tmp_path / "out")
    assert (row.model, row.state, row.label) == ("polite", "answered", 1)


def test_the_engines_table_of_the_readme_is_a_profiles() -> None:
    import tomllib

    block = README.split("## Past one machine", 1)[1].split("```toml\n", 1)[1].split("```", 1)[0]
    known = load_profile("offline").model_dump(exclude_none=True)
    engine = Profile.model_validate(known | tomllib.loads(block)).engine
    assert (engine.draw.actors, engine.draw.gpus, engine.draw.batch_size) == (4, 1.0, 32)


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_of_the_readmes_exists_and_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
