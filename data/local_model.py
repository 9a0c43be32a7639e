"""Models that transformers loads: batches padded on the left, halved when the memory does not reach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from data.errors import RowFailed, UserError, missing_package
from data.quality import UnusablePicture, in_plain_colour, opened, within
from data.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

HEAD_BYTES = 1 << 20  # of each weight file that stand for it in a folder's fingerprint


class Settings(Record):
    """How answers are generated: the paper's, greedy and 128 new tokens, unless told otherwise."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    max_pixels: int = 1_003_520  # larger pictures are downscaled first (1,280 patches of Qwen2-VL)


class Reply(NamedTuple):
    """A generated text and whether it ended by itself ("stop") or at the limit ("length")."""

    text: str
    finish_reason: str


Prompt = tuple[str, "Picture | None"]
Encode = Callable[[Sequence[Prompt]], Any]  # prompts -> tensors by name, padded on the left


class LocalModel:
    """A loaded model, how it reads prompts and how its tokens read as text."""

    def __init__(
        self, name: str, revision: str, model: Any, encode: Encode, tokenizer: Any, settings: Settings
    ) -> None:
        self.name, self.revision, self.settings = name, revision, settings
        self.model, self.encode, self.tokenizer = model, encode, tokenizer
        self._largest: int | None = None  # batch the memory is known to hold, once it has failed
        self._ends = _ids(model.generation_config.eos_token_id) | _ids(tokenizer.eos_token_id)

    def generate(self, prompts: Sequence[Prompt]) -> list[Reply | RowFailed]:
        """One reply per prompt, in order; a prompt too large even alone is that row's failure."""
        import torch

        if self._largest is not None and len(prompts) > self._largest:
            return self._halves(prompts, self._largest)
        try:
            return list(self._generate(prompts))
        except torch.OutOfMemoryError as error:
            if len(prompts) == 1:
                return [RowFailed("out_of_memory", " ".join(str(error).split())[:200])]
        self._largest = len(prompts) // 2  # outside of the handler: its traceback holds the tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._halves(prompts, self._largest)

    def _halves(self, prompts: Sequence[Prompt], size: int) -> list[Reply | RowFailed]:
        replies: list[Reply | RowFailed] = []
        for start in range(0, len(prompts), size):
            replies += self.generate(prompts[start : start + size])
        return replies

    def _generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        import torch

        inputs = self.encode(prompts).to(self.model.device)
        for name, tensor in inputs.items():
            if torch.is_tensor(tensor) and torch.is_floating_point(tensor):
                inputs[name] = tensor.to(self.model.dtype)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, **_generation(self.settings, self.tokenizer, self._ends))
        fresh = tokens[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._reply(row) for row in fresh]

    def _reply(self, tokens: list[int]) -> Reply:
        ended = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        text = self.tokenizer.decode(tokens[:ended], skip_special_tokens=True)
        return Reply(text.strip(), "length" if ended is None else "stop")


def _generation(settings: Settings, tokenizer: Any, ends: set[int]) -> dict[str, Any]:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    common = {"max_new_tokens": settings.max_new_tokens, "pad_token_id": pad}
    if settings.temperature > 0:
        return common | {"do_sample": True, "temperature": settings.temperature}
    return common | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _ids(token: int | list[int] | None) -> set[int]:
    return set(token) if isinstance(token, list) else {token} if token is not None else set()


def open_picture(file: Path | IO[bytes], max_pixels: int) -> Picture:
    """A picture in colour and upright, downscaled to the limit. Raises `RowFailed` when it is none."""
    try:
        with opened(file) as image:
            return within(in_plain_colour(image), max_pixels)
    except UnusablePicture as error:
        raise RowFailed("unreadable_image", f"{getattr(file, 'name', 'picture')}: {error}") from error


def loading(pickled: bool = False) -> dict[str, Any]:
    """How weights are loaded: safetensors unless `pickled` ones are asked for, bfloat16 on a GPU, else float32."""
    import torch

    only = {} if pickled else {"use_safetensors": True}
    if not torch.cuda.is_available():
        return {"dtype": torch.float32, **only}
    return {"dtype": torch.bfloat16, "device_map": "auto", **only}


def import_transformers() -> Any:
    """The library, or the sentence that says how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise missing_package("transformers", "eval") from error
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what is missing is checked, and said in one sentence
    return transformers


def revision_of(model: str, config: Any) -> str:
    """The commit on the Hub, or a digest of the folder: names, sizes and the start of every file."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None) or _cached_commit(model))
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(HEAD_BYTES))
    return digest.hexdigest()[:16]


def _cached_commit(model: str) -> str:
    """The commit of the Hub's files in the cache: newer versions of the library leave it out of the config."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model, "config.json")
    return Path(path).parent.name if isinstance(path, str) else ""


def config_of(model: str) -> Any:
    """A checkpoint's configuration, without its weights."""
    transformers = import_transformers()
    try:
        return transformers.AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise cannot_load(model, error) from error


def cannot_load(model: str, error: Exception) -> UserError:
    """The error for a checkpoint that is not there or not what it should be."""
    said = " ".join(str(error).split())[:240]
    if "safetensors" in said:
        return UserError(
            f"{model} has no weights as safetensors; other files could run a stranger's code. Convert it, or "
            "if you trust it, add --pickled-weights."
        )
    return UserError(f"Cannot load the model {model} ({said}): name a checkpoint folder or an id of the Hub.")
