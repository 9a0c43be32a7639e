"""Files of strangers: no path leads out, no archive is unpacked, no file's code is run."""

from __future__ import annotations

import ast
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from data.benchmark.layout import read_layout
from data.embedders import load_embedder
from data.errors import UserError
from data.hub_models import load_hub_model
from data.image_embedder import load_image_embedder
from data.local_model import Settings
from data.sources.reader import read_source
from eval.cases import read_cases
from tests.source_files import png
from tests.tiny_vlms import make

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("audit", "construct", "data", "eval", "filter", "generate_images")
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "np.load", "numpy.load",
                "yaml.load", "pandas.read_pickle", "pd.read_pickle", "shutil.unpack_archive"}  # fmt: skip
LOADS_WEIGHTS = ("AutoModel", "Pipeline", "CLIPVisionModel", "SentenceTransformer")


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """(dotted name, node) of every call in a file."""
    tree = ast.parse(path.read_text())
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_room_imports_or_calls_what_runs_a_files_code() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & UNSAFE_MODULES, path
        assert not {name for name, _ in calls(path)} & UNSAFE_CALLS, path


def test_nothing_trusts_remote_code_and_every_weights_file_is_safetensors() -> None:
    checked = 0
    for path in SOURCES:
        for name, call in calls(path):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get("trust_remote_code", "False") == "False", path
            if any(part in name for part in LOADS_WEIGHTS) and name.endswith(
                ("from_pretrained", "download", "SentenceTransformer")
            ):
                spelt = ast.unparse(call)
                assert "use_safetensors" in spelt or "loading(" in spelt or "**options" in spelt, (
                    path,
                    spelt,
                )
                checked += 1
    assert checked >= 6


class Executes:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def pickled(mark: Path) -> bytes:
    import pickle

    return pickle.dumps({"weight": Executes(mark)})


def without_safetensors(folder: Path, mark: Path) -> Path:
    """The same checkpoint with a pickle that acts in place of its weights."""
    for path in folder.rglob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickled(mark))
    return folder


def test_a_checkpoint_whose_weights_are_a_pickle_is_refused_and_not_opened(tmp_path: Path) -> None:
    mark = tmp_path / "acted"
    folder = without_safetensors(make("qwen2vl", tmp_path / "model"), mark)
    with pytest.raises(UserError, match=r"no weights as safetensors.*--pickled-weights"):
        load_hub_model("qwen2vl", str(folder), Settings())
    with pytest.raises(UserError, match="cannot be loaded"):
        load_image_embedder(str(folder))
    with pytest.raises((UserError, OSError)):
        load_embedder(f"st:{folder}")
    assert not mark.exists()


ARCHIVES = ("bench.zip", "bench.tar", "bench.tar.gz", "bench.7z")


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_and_nothing_of_it_unpacked(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../escaped.json", "[]")
    elif ".tar" in name:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            entry = tarfile.TarInfo("../../escaped.json")
            archive.addfile(entry, io.BytesIO(b""))
    else:
        path.write_bytes(b"7z\xbc\xaf\x27\x1c")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"unpack it first|known are"):
        read_source(str(path))
    assert sorted(tmp_path.rglob("*")) == before


STRAYS = {
    "../../secret.png": "lies outside",
    "/etc/passwd": "lies outside",
    "imgs/link.png": "lies outside",
    "links/secret.png": "lies outside",
    "imgs/a\0.png": "lies outside",
    "x" * 5000: "are missing",
    "imgs": "are missing",
}


def bench_with(tmp_path: Path, image: str) -> Path:
    folder = tmp_path / "bench"
    (folder / "imgs").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "imgs/link.png").symlink_to(tmp_path / "secret.png")
    (folder / "links").symlink_to(tmp_path)
    row = dict.fromkeys(
        ("instruction", "category", "sub_category", "source", "image_description", "safety_reason"), "x"
    )
    (folder / "data.json").write_text(json.dumps([row | {"instruction_id": 0, "image_path": image}]))
    return folder


@pytest.mark.parametrize("image", STRAYS)
def test_a_benchmark_to_extend_or_evaluate_hands_over_no_file_from_outside(
    tmp_path: Path, image: str
) -> None:
    folder = bench_with(tmp_path, image)
    with pytest.raises(UserError, match=STRAYS[image]):
        read_layout(folder)
    assert read_cases(str(folder))[0].image is None
