"""What a picture depends on, how often it is tried, how the machine draws it; presets of known models.

A row of `presets.toml`; what a user sets wins over the model's table, and that over its family's:

    [model."stabilityai/stable-diffusion-3.5-medium"]
    steps = 40
    guidance = 4.5
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

PRESETS = Path(__file__).with_name("presets.toml")


class Settings(BaseModel):
    """Frozen settings; a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def over(self, defaults: Self) -> Self:
        """These settings, with those of `defaults` where nothing was set here."""
        return defaults.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class PictureSettings(Settings):
    """What the picture depends on. None: as the pipeline itself would have it."""

    model: str | None = None  # the repository that holds the pipeline, where the name stands for a LoRA
    revision: str | None = None
    variant: str | None = None
    lora: str | None = None
    lora_file: str | None = None
    steps: int | None = Field(None, gt=0)
    guidance: float | None = Field(None, ge=0)
    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    negative_prompt: str = ""
    max_sequence_length: int | None = Field(None, gt=0)  # tokens a T5 encoder is given
    longest_sequence: int = Field(512, gt=0)  # what `max_sequence_length` is raised to for a long prompt
    scheduler: str | None = None
    scheduler_options: dict[str, str | float | bool] = {}
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    safety_checker: bool = True  # false: a checker that the model brings is left out


class MachineSettings(Settings):
    """How the work is done: changes speed and memory, and a picture in its last bits at most."""

    device: str = "auto"
    batch_size: int | None = Field(None, gt=0)  # None: found by measuring
    exact: bool = False  # one picture at a time: its bits then cannot depend on its company
    offload: Literal["none", "model", "sequential"] = "none"
    encoders: Literal["auto", "keep", "release"] = "auto"  # whether text encoders stay beside the denoiser
    compile: bool = False
    base_url: str | None = None  # of an Images-API server
    key_variable: str = "OPENAI_API_KEY"
    timeout_seconds: float = Field(300.0, gt=0)
    workers: int = Field(4, gt=0)  # requests in flight to an Images-API server

    @property
    def images_url(self) -> str | None:
        """The Images-API server of one's own; None: OpenAI's."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL")


class LoopSettings(Settings):
    """How often a picture is tried, and what is good enough. Shares are 0 to 1, higher matches better."""

    rounds: int = Field(3, ge=0)  # redraws with an improved prompt, where there is a critic
    best_of: int = Field(1, ge=1)  # seeds tried where there is none
    retries: int = Field(2, ge=0)  # other seeds for a black or blank picture
    good_enough: float = Field(0.8, ge=0, le=1)  # a match from which on nothing is redrawn
    least_match: float = Field(0.5, ge=0, le=1)  # below it even the best picture is rejected


@cache
def _tables() -> dict[str, dict[str, dict[str, object]]]:
    return tomllib.loads(PRESETS.read_text())


def preset(model: str, family: str = "") -> PictureSettings:
    """The preset of a model by its Hub id, over that of its pipeline class; empty for an unknown one."""
    tables = _tables()
    own = PictureSettings.model_validate(tables["model"].get(model, {}))
    return own.over(PictureSettings.model_validate(tables["family"].get(family, {})))
