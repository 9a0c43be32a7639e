"""Where a diffusers model comes from: a folder or the Hub; which revision it is; how it is loaded."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import re
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError, missing_package, unknown
from generate_images.settings import PictureSettings, preset

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SAID = 200  # characters of a library's message
SAMPLE = 1 << 20  # bytes read at the start, middle and end of each weights file for the folder's digest


def folder_of(model: str) -> Path | None:
    """The folder a model's name stands for, if it is one."""
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None


def check_model(model: str) -> None:
    """Raise `UserError` for what can be neither a pipeline's folder nor a name on the Hub."""
    folder = folder_of(model)
    if folder is not None and not (folder / INDEX).is_file():
        raise UserError(f"The folder {model} holds no diffusers pipeline: it has no {INDEX}.")
    if folder is None and not HUB_ID.fullmatch(model):
        raise UserError(f"There is no folder {model}; a model of the Hub is written OWNER/MODEL.")


def settings_for(model: str, asked: PictureSettings) -> PictureSettings:
    """What was asked for over the preset of the model, or of its family where a folder tells it."""
    folder = folder_of(model)
    return asked.over(preset(model, _family(folder) if folder else ""))


def fetch(model: str, settings: PictureSettings) -> Path:
    """The pipeline's folder; from the Hub's cache, or downloaded into it, where it is a Hub id."""
    check_model(model)
    folder = folder_of(model)
    if folder is not None:
        return folder
    from diffusers import DiffusionPipeline

    _hush()
    try:
        return Path(
            DiffusionPipeline.download(
                model, revision=settings.revision, variant=settings.variant, use_safetensors=True
            )
        )
    except (OSError, ValueError) as error:
        raise _unfetched(model, error) from error


def _unfetched(model: str, error: Exception) -> UserError:
    """One sentence for whatever kept a model from being fetched."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return UserError(f"Not enough disk to fetch {model}: make room, or set HF_HOME to a larger disk.")
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return UserError(f"{model} is gated: accept its licence on its page and set HF_TOKEN.")
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return UserError(f"The Hub has no {model} (or not that revision), and there is no such folder.")
    return UserError(
        f"{model} could not be fetched from the Hub, and there is no such folder: check the name and the "
        "connection, or fetch it elsewhere and name its folder."
    )


def revision_of(folder: Path) -> str:
    """The commit of a Hub snapshot; else a digest of the folder's file names, sizes and sampled bytes."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots":
        return folder.name
    seen = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
            size = path.stat().st_size
            seen.update(f"{path.relative_to(folder)}\0{size}\0".encode())
            with open(path, "rb") as file:
                for place in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                    file.seek(place)
                    seen.update(file.read(SAMPLE))
    return f"folder-{seen.hexdigest()[:12]}"


def _family(folder: Path) -> str:
    """The pipeline class that a folder's index names."""
    return str(_index(folder).get("_class_name", ""))


def _index(folder: Path) -> dict[str, Any]:
    """A pipeline's class and parts: `{"_class_name": ..., "vae": ["diffusers", "AutoencoderKL"], ...}`."""
    try:
        return dict(json.loads((folder / INDEX).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / INDEX} cannot be read as a pipeline's index.") from error


def load_pipeline(folder: Path, settings: PictureSettings, dtype: torch.dtype) -> Any:
    """The text-to-image pipeline in a folder, in main memory, with LoRA and scheduler as set."""
    import diffusers

    _hush()
    options: dict[str, Any] = {"dtype": dtype, "variant": settings.variant, "use_safetensors": True}
    options |= {
        name: None for name, kind in _index(folder).items() if kind == [None, None]
    }  # SD-3 without T5
    if not settings.safety_checker:
        options |= {"safety_checker": None}
    try:
        pipe = _load(diffusers, folder, options)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The pipeline in {folder} cannot be loaded: {reason}") from error
    pipe.set_progress_bar_config(disable=True)
    _add_lora(pipe, settings)
    _set_scheduler(diffusers, pipe, settings)
    return pipe


def _hush() -> None:
    """What the libraries would say of long prompts, the rows say; of what failed, our one sentence."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    for log in (diffusers_log, transformers_log):
        log.set_verbosity(CRITICAL)
        log.disable_progress_bar()


def _load(diffusers: Any, folder: Path, options: dict[str, Any]) -> Any:
    """By the text-to-image class of the model's family; by the class its index names where it has none."""
    try:
        return diffusers.AutoPipelineForText2Image.from_pretrained(folder, **options)
    except ValueError as error:
        if not str(error).startswith("AutoPipeline can't find"):
            raise
    return diffusers.DiffusionPipeline.from_pretrained(folder, **options)


def _add_lora(pipe: Any, settings: PictureSettings) -> None:
    """Melt a LoRA into the weights: it then costs nothing per step."""
    if settings.lora is None:
        return
    try:
        pipe.load_lora_weights(settings.lora, weight_name=settings.lora_file, use_safetensors=True)
        if not pipe.get_list_adapters():  # the library only logs that it has found nothing to change
            raise ValueError("none of its layers is one of the model's")
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    except OSError as error:
        if folder_of(settings.lora) is None:
            raise _unfetched(settings.lora, error) from error
        raise UserError(f"The folder {settings.lora} holds no {settings.lora_file or 'LoRA'}.") from error
    except (ImportError, ValueError, RuntimeError, AttributeError) as error:
        if "PEFT" in str(error):
            raise missing_package("peft", "draw") from error
        reason = " ".join(str(error).split())[:SAID]
        raise UserError(f"The LoRA {settings.lora} does not fit this model: {reason}") from error


def _set_scheduler(diffusers: Any, pipe: Any, settings: PictureSettings) -> None:
    """Exchange the scheduler; options alone are for the model's own."""
    if settings.scheduler is None and not settings.scheduler_options:
        return
    own = pipe.scheduler
    named = settings.scheduler or type(own).__name__
    known = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))
    if named not in known:
        raise unknown("scheduler", named, known)
    kind = getattr(diffusers, named)
    for option in settings.scheduler_options.keys() - inspect.signature(kind.__init__).parameters.keys():
        raise UserError(f"The scheduler {named} has no option {option!r}; leave it out.")
    try:
        chosen = kind.from_config(own.config, **settings.scheduler_options)
    except (ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:SAID]
        raise UserError(f"The scheduler {named} cannot be used so: {reason}") from error
    if _flows(own) != _flows(chosen):
        raise UserError(
            f"The scheduler {named} does not go with this model, whose own is a {type(own).__name__}: one "
            "follows a flow (use_flow_sigmas, where it has that option), the other takes noise away."
        )
    pipe.scheduler = chosen


def _flows(scheduler: Any) -> bool:
    """Whether a scheduler takes the model's answer for a flow, as SD-3's and FLUX's is, and not for noise."""
    return "FlowMatch" in type(scheduler).__name__ or bool(scheduler.config.get("use_flow_sigmas"))
