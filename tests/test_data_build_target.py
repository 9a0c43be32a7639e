"""Where a build goes: a folder that is replaced with nothing lost, the Hub, and neither by mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from data.benchmark.options import Options
from data.benchmark.publish import Terms, describe_push, push
from data.build import build_run
from data.errors import UserError
from data.reviews import Review
from data.rows import RowFile
from data.run_folder import locked
from data.taxonomy import load_taxonomy
from tests.built_run import DAY, REPOSITORY, build, files_of, make_built_run, rows_of
from tests.small_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_built_run(tmp_path_factory.mktemp("run"))


def test_a_build_never_replaces_a_folder_that_is_none(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("four years of work")
    done = build(str(run), "--out", str(tmp_path))
    assert done.returncode == 2 and "holds something that is no build" in done.stderr
    assert (tmp_path / "thesis.tex").exists()
    assert build(str(tmp_path)).returncode == 2


def test_an_edited_card_stays_and_a_lost_file_comes_back(run: Path, tmp_path: Path) -> None:
    target = build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date=DAY))
    before = files_of(target)
    (target / "imgs" / "1.png").unlink()
    build_run(run, load_taxonomy())
    assert files_of(target) == before
    (target / "data.json").touch()  # as a copy does
    (target / "README.md").write_text("# All my own words")
    assert build_run(run, load_taxonomy()) == target  # nothing is to be built
    with pytest.raises(UserError, match=r"such as README\.md: move that away"):
        build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date="2026-02-01"))
    assert files_of(target) == before | {"README.md": b"# All my own words"}


def test_a_build_takes_nothing_with_it_that_was_put_beside_an_earlier_one(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "clone"
    build_run(run, load_taxonomy(), Options(out=str(target), date=DAY))
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("ref: refs/heads/main")
    before = files_of(target)
    with pytest.raises(UserError, match=r"such as \.git/HEAD: move that away"):
        build_run(run, load_taxonomy(), Options(out=str(target), date="2026-02-01"))
    assert files_of(target) == before
    shutil.rmtree(target / ".git")
    (target / "imgs" / ".DS_Store").write_bytes(b"left by a file manager")
    build_run(run, load_taxonomy(), Options(out=str(target), date="2026-02-01"))
    assert "2026-02-01" in (target / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_an_earlier_build_stays_when_the_new_one_cannot_take_its_place(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date=DAY))
    before = files_of(target)

    def refuse(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=r"Cannot replace .*out \(Device or resource busy\)"):
        build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date="2026-02-01"))
    assert files_of(target) == before


def test_a_build_that_is_stopped_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data.benchmark.provenance.write_checksums", stop)
    with pytest.raises(KeyboardInterrupt):
        build_run(run, load_taxonomy(), Options(out=str(tmp_path / "out"), date=DAY))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "FILE"), "is a file: name an empty or a new --out folder"),
        (("--out", "FILE/inside"), "name another folder with --out"),
        (("--out", "a" * 400), "There can be no file or folder 'aaa"),
        (("--out", "."), "you are in it: name another --out folder"),
        (("--push", "nonsense"), "--push takes owner/name, not 'nonsense'"),
        (("--push", "a--b/c.git", "--dry-run"), "the Hub allows letters"),
        (("--dry-run",), "add --push OWNER/NAME"),
        (("--public",), "add --push OWNER/NAME"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence_and_builds_nothing(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    make_run(tmp_path / "run", pairs=2, leaking=1)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    done = build("../run", *(each.replace("FILE", "../file") for each in arguments), here=tmp_path / "here")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "build.meta.json").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_at_work_is_said_in_the_commands_own_words(tmp_path: Path) -> None:
    make_run(tmp_path, pairs=2, leaking=1)
    with locked(tmp_path):
        done = build(str(tmp_path))
    assert done.returncode == 2 and done.stderr.endswith("wait for it, or name another RUN.\n")


def test_without_options_it_is_built_as_it_was_last(tmp_path: Path) -> None:
    kept = make_run(tmp_path, pairs=4, leaking=1)
    approved = {"action": "approve", "pair": kept[0].id, "instruction": kept[0].instruction}
    log = RowFile(tmp_path / "reviews.jsonl")
    log.append(Review.model_validate({"id": "0", "reviewer": "Ada"} | approved).model_dump(mode="json"))
    log.close()
    assert build(str(tmp_path), "--reviewed-only").returncode == 0
    again = build(str(tmp_path), "--push", "owner/name", "--dry-run")
    assert again.stdout.startswith("as last    --reviewed-only\n")
    assert build(str(tmp_path)).returncode == 0 and len(rows_of(tmp_path / "benchmark")) == 1
    other = build(str(tmp_path), "--calibration")
    assert other.stderr == "note: the last build had --reviewed-only, this one has not.\n"
    assert len(rows_of(tmp_path / "benchmark")) == 4
    plain = build(str(tmp_path), "--no-calibration")
    assert plain.returncode == 0 and not plain.stderr
    assert not list((tmp_path / "benchmark" / "data").glob("calibration*"))


def test_the_paths_of_a_build_hold_in_any_working_directory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run / "benchmark", tmp_path / "theirs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for out in ("mine", "run/inside"):
        options = Options(extend="theirs", out=out, date=DAY)
        made = files_of(build_run(Path("run"), load_taxonomy(), options))
        monkeypatch.chdir(tmp_path / "elsewhere")
        again = build_run(Path("../run"), load_taxonomy())
        assert again.resolve() == tmp_path / out and files_of(again) == made
        assert not list((tmp_path / "elsewhere").iterdir())
        assert not any(str(tmp_path).encode() in content for content in made.values())  # it is published
        monkeypatch.chdir(tmp_path)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert build_run(tmp_path / "moved", load_taxonomy()) == tmp_path / "moved" / "inside"


def test_a_dry_run_changes_nothing_and_counts_what_a_push_would_build(tmp_path: Path) -> None:
    make_built_run(tmp_path / "run")
    (tmp_path / "run" / ".lock").touch()  # which every command leaves
    before = files_of(tmp_path)
    again = build(str(tmp_path / "run"), "--push", "owner/name", "--dry-run")
    assert "Would push 22 files" in again.stdout and "not up to date" not in again.stdout
    other = build(str(tmp_path / "run"), "--date", DAY, "--push", "owner/name", "--dry-run")
    assert "(not up to date: it would be built first" in other.stdout
    assert files_of(tmp_path) == before
    assert build(str(tmp_path / "run"), "--date", DAY).returncode == 0
    told = describe_push(tmp_path / "run" / "benchmark", "owner/name", Terms())
    assert told in other.stdout and told not in again.stdout


class Hub:
    """Keeps what it is asked to do, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return lambda *_, **fields: self.asked.append((name, fields)) or "hub/owner/name"


def test_a_push_is_private_and_gated_before_a_file_goes(run: Path) -> None:
    hub = Hub()
    push(run / "benchmark", "owner/name", Terms(), hub)  # type: ignore[arg-type]
    assert [name for name, _ in hub.asked] == ["create_repo", "update_repo_settings", "upload_folder"]
    assert hub.asked[0][1]["private"] is True
    assert (hub.asked[1][1]["private"], hub.asked[1][1]["gated"]) == (True, "manual")


def test_a_push_leaves_no_shard_and_no_picture_of_an_earlier_build(run: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    hub = Hub()
    push(run / "benchmark", "owner/name", Terms(), hub)  # type: ignore[arg-type]
    there = [
        "data/test-00001-of-00002.parquet",
        "imgs/99.png",
        "charts/old.svg",
        ".gitattributes",
        "NOTES.md",
    ]
    gone = filter_repo_objects(there, allow_patterns=hub.asked[2][1]["delete_patterns"])  # type: ignore[arg-type]
    assert list(gone) == there[:3]


class StrictHub(BaseHTTPRequestHandler):
    """Knows the dataset and finds fault with its card."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.path == "/api/validate-yaml"
        body = {"url": "hub/owner/name", "errors": [{"message": '"license" must be one of [mit]'}]}
        content = json.dumps([] if "/tree/" in self.path else body).encode()
        self.send_response(400 if fault else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_card_that_the_hub_does_not_take_is_one_sentence(run: Path) -> None:
    from huggingface_hub import HfApi

    hub = ThreadingHTTPServer(("127.0.0.1", 0), StrictHub)
    Thread(target=hub.serve_forever, daemon=True).start()
    api = HfApi(endpoint=f"http://127.0.0.1:{hub.server_port}", token="none")
    try:
        with pytest.raises(UserError, match=r'does not take the card .*"license" must be one of'):
            push(run / "benchmark", "owner/name", Terms(), api)
    finally:
        hub.shutdown()
        hub.server_close()


def test_a_hub_out_of_reach_is_one_sentence(run: Path) -> None:
    from huggingface_hub import HfApi

    with pytest.raises(UserError, match=r"The Hub cannot be reached .* resumes later"):
        push(run / "benchmark", "owner/name", Terms(), HfApi(endpoint="http://127.0.0.1:9", token="none"))


def test_a_dry_run_says_what_would_go_and_sends_nothing(run: Path) -> None:
    said = describe_push(run / "benchmark", "owner/name", Terms())
    count = sum(path.is_file() for path in (run / "benchmark").rglob("*"))
    assert said.startswith(f"Would push {count} files") and "private, gated" in said
    with pytest.raises(UserError, match="takes owner/name"):
        describe_push(run / "benchmark", "https://example.org/name", Terms())


def test_help_answers_at_once() -> None:
    import time

    def seconds(module: str) -> float:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=REPOSITORY, capture_output=True, check=True
        )
        return time.monotonic() - started

    for module in ("data.build", "filter.run", "filter.review"):
        assert min(seconds(module) for _ in range(4)) < 0.5
