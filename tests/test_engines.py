"""Local and Ray make the same rows, pictures and scores; a worker that dies costs no row."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.calibrations import load_calibration
from audit.spread import SpreadAuditor, load_auditor
from construct.conductor import _run_steps
from construct.offline.scenes import load_scenes
from construct.profile import load_profile
from construct.workshop import Workshop
from data.embedders import find_embedder
from data.engines import LOCAL, Engine, Pool, RayEngine, SpreadEmbedder, opened_engine
from data.errors import RowFailed, UserError
from data.local_model import Settings
from data.records import Audit, Pair
from data.rows import read_rows
from data.stage import Stage, StageMeta, read_stage, run_stage
from eval.ledger import answer_arm
from eval.models import Choice, load_on
from eval.records import Answer, Ask
from tests.small_run import drawing
from tests.tiny_vlms import make as make_checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]
POOLS = {"slow": Pool(actors=2, batch_size=4), "hungry": Pool(actors=1, gpus=64)}


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[RayEngine]:
    """Ray on this machine, started once."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    surroundings = {"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}}
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             runtime_env=surroundings, object_store_memory=200 * 2**20)  # fmt: skip
    engine = RayEngine(POOLS)
    yield engine
    engine.close()


def pairs(number: int) -> list[Pair]:
    return [
        Pair(id=f"p{place:03d}", category="c", sub_category="s", element=f"{place}")
        for place in range(number)
    ]


def told(stage: Stage[Pair, Pair], inputs: Sequence[Pair], folder: Path, engine: Engine = LOCAL) -> StageMeta:
    return asyncio.run(run_stage(stage, inputs, folder, engine=engine))


def picky() -> Callable[[Sequence[Pair]], list[Pair | RowFailed]]:
    """A function that refuses one row, breaks on another, and answers the rest."""

    def work(chunk: Sequence[Pair]) -> list[Pair | RowFailed]:
        if any(pair.id == "p007" for pair in chunk):
            raise ValueError("seven is broken")
        return [
            RowFailed("refused", "not this")
            if pair.id == "p003"
            else pair.replace(instruction=f"of {pair.element}")
            for pair in chunk
        ]

    return work


def picky_stage(name: str = "slow") -> Stage[Pair, Pair]:
    return Stage(name, {"v": 1}, batch=picky(), batch_size=4, make=picky)


def test_rows_and_failures_are_the_same_and_a_rerun_repeats_only_what_may_pass(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    here, there = tmp_path / "local", tmp_path / "ray"
    for folder, engine in ((here, LOCAL), (there, ray_engine)):
        meta = told(picky_stage(), pairs(30), folder, engine)
        assert (meta.kept, meta.failed) == (28, {"error": 1, "refused": 1})
    assert (here / "slow.jsonl").read_bytes() == (there / "slow.jsonl").read_bytes()
    assert told(picky_stage(), pairs(31), there, ray_engine).fresh == 2  # the broken one and the new one


def dying(mark: Path, always: bool) -> Callable[[Sequence[Pair]], list[Pair]]:
    """Dies by kill -9 at its sixth row: the first time, or every time."""

    def work(chunk: Sequence[Pair]) -> list[Pair]:
        if any(pair.id == "p005" for pair in chunk) and (always or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return list(chunk)

    return work


def dying_stage(mark: Path, always: bool = False) -> Stage[Pair, Pair]:
    make = partial(dying, mark, always)
    return Stage("slow", {}, batch=list, batch_size=4, make=lambda: make())


def test_a_killed_workers_rows_are_worked_on_again(ray_engine: RayEngine, tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    meta = told(dying_stage(mark), pairs(24), tmp_path, ray_engine)
    assert mark.exists()
    assert (meta.kept, meta.failed) == (24, {})


@pytest.mark.slow
def test_rows_that_kill_every_worker_fail_alone_and_the_next_run_tries_them_again(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    meta = told(dying_stage(tmp_path / "killed", always=True), pairs(12), tmp_path, ray_engine)
    assert meta.failed == {"worker_lost": 4}  # one batch
    assert meta.kept == 8
    assert told(dying_stage(tmp_path / "killed"), pairs(12), tmp_path, ray_engine).kept == 12


def full() -> Callable[[Sequence[Pair]], list[Pair]]:
    raise UserError("The disk is full: make room.")


def test_what_the_user_must_mend_stops_the_run_in_the_same_sentence(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    stage: Stage[Pair, Pair] = Stage("slow", {}, batch=list, batch_size=4, make=full)
    with pytest.raises(UserError, match=r"^The disk is full: make room\.$"):
        told(stage, pairs(8), tmp_path, ray_engine)


def unloadable() -> Callable[[Sequence[Pair]], list[Pair]]:
    raise RuntimeError("no kernel image is available")


def test_a_model_that_does_not_load_is_every_rows_failure_with_its_reason(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    stage: Stage[Pair, Pair] = Stage("slow", {}, batch=list, batch_size=4, make=unloadable)
    assert told(stage, pairs(8), tmp_path, ray_engine).failed == {"error": 8}
    assert all("no kernel image" in row["detail"] for row in read_rows(tmp_path / "slow.jsonl"))


def test_more_gpus_than_there_are_is_a_sentence_and_no_endless_wait(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"\[engine.hungry\] asks for 1 x 64 GPU, and Ray has"):
        told(picky_stage("hungry"), pairs(4), tmp_path, ray_engine)


@pytest.fixture(scope="module")
def scenes() -> tuple[list[str], list[str | None]]:
    some = load_scenes()[::24]
    queries = [scene.leak_free_query for scene in some] + [scene.leaking_query for scene in some] + [""]
    return queries, [scene.image_description for scene in some] * 2 + [None]


def close(one: Audit, other: Audit) -> bool:
    """The same verdict and evidence, figures to 1e-5."""
    figures = [(each.leakage, each.text_harm, each.p_value) for each in (one, other)]
    same = (one.leaks, one.unscored_because) == (other.leaks, other.unscored_because)
    known = [[np.nan if value is None else value for value in row] for row in figures]
    return same and np.allclose(known[0], known[1], atol=1e-5, equal_nan=True)


def test_scores_are_the_same_to_1e_5(
    ray_engine: RayEngine, scenes: tuple[list[str], list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.spread.PAIRS_TOGETHER", 8)  # several parts
    queries, shown = scenes
    load = partial(load_auditor, "minilm", "minilm", 0.05)
    origins = ["author"] * len(queries)
    plain = load().score(queries, shown, origins)
    spread = SpreadAuditor(ray_engine, load, load_calibration("minilm"), 0.05).score(queries, shown, origins)
    assert len(spread) == len(plain)
    assert all(close(one, other) for one, other in zip(plain, spread, strict=True))
    assert max(audit.leakage or 0.0 for audit in plain) > 0.5


@pytest.mark.slow
def test_embeddings_are_the_same_to_1e_5(ray_engine: RayEngine, scenes: tuple[list[str], Any]) -> None:
    load = find_embedder("minilm")
    texts = [*scenes[0], *scenes[0][:3]]
    spread = SpreadEmbedder("minilm", ray_engine, "filter", load).embed(texts)
    assert np.abs(spread - load().embed(texts)).max() < 1e-5


def test_pictures_are_the_same_bytes_and_the_whole_run_the_same_rows(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    profile = load_profile("offline")
    rows: dict[str, dict[str, Any]] = {}
    for name, engine in (("local", LOCAL), ("ray", ray_engine)):
        shop = Workshop(profile, tmp_path / name, engine=engine)
        for stage in ("elements", "describe"):
            asyncio.run(_run_steps(shop, stage, 3))
        described = tmp_path / name / "describe.jsonl"
        (tmp_path / name / "rewrite.jsonl").write_bytes(described.read_bytes())  # no auditor needed for this
        meta = (tmp_path / name / "describe.meta.json").read_text().replace('"describe"', '"rewrite"')
        (tmp_path / name / "rewrite.meta.json").write_text(meta)
        asyncio.run(_run_steps(shop, "draw", None))
        rows[name] = {row["id"]: row for row in read_rows(tmp_path / name / "draw.jsonl")}
    assert rows["local"] == rows["ray"]
    assert len(rows["ray"]) == 3
    for path in (tmp_path / "local/images").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "ray/images" / path.name).read_bytes()


def test_a_local_models_answers_are_the_same(ray_engine: RayEngine, tmp_path: Path) -> None:
    drawing(1).save(tmp_path / "a.png")
    settings = Settings(max_new_tokens=4)
    choice = Choice(
        "qwen2vl", str(make_checkpoint("qwen2vl", tmp_path / "model")), settings, None, batch_size=2
    )
    asks = [
        Ask(id=f"{n}:image", case=str(n), arm="image", question=f"What is it {n}?", image=tmp_path / "a.png",
            image_sha256="x")
        for n in range(4)
    ]  # fmt: skip
    for engine, folder in ((LOCAL, tmp_path / "local"), (ray_engine, tmp_path / "ray")):
        model = load_on(choice, engine, "answers-image")
        asyncio.run(answer_arm(model, "image", asks, folder, False, engine))
    answers = [list(read_stage(tmp_path / name, "answers-image", Answer)) for name in ("local", "ray")]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 4


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("rai", None, "Unknown engine 'rai'; choose from: local, ray"),
        ("local", "1.2.3.4:1", "goes with --engine ray"),
    ],
)
def test_a_wrong_engine_is_a_sentence(name: str, address: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said), opened_engine(name, {}, address):
        pass
