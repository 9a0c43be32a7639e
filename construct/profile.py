"""A profile says with what a benchmark is built: one TOML file, every key checked."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.engines import Pool
from data.errors import UserError, unknown
from filter.settings import BalanceSettings, FilterSettings
from generate_images.settings import LoopSettings, MachineSettings, PictureSettings

EMBEDDED = Path(__file__).with_name("profiles")


class Section(BaseModel):
    """A table of the profile; a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChatSection(Section):
    """A chat model: the embedded scene bank, or any server that speaks the OpenAI protocol."""

    kind: Literal["offline", "openai"]
    model: str = "scene-bank"
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"  # the environment variable, never the key
    temperature: float = Field(0.7, ge=0, le=2)
    max_tokens: int = Field(1024, gt=0)
    timeout_seconds: float = Field(120.0, gt=0)
    workers: int = Field(16, gt=0)
    requests_per_minute: float | None = Field(None, gt=0)  # None: as many as the server takes
    tokens_per_minute: float | None = Field(None, gt=0)
    input_price: float | None = Field(None, ge=0)  # per million tokens, in place of data/llm/prices.toml's
    output_price: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _priced_whole(self) -> Self:
        """One price alone would count for nothing, and a budget would go by another."""
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("input_price and output_price are given together")
        return self


class ElementsSection(Section):
    per_sub_category: int = Field(gt=0)
    batch: int = Field(25, gt=0)  # elements asked for in one call
    near_duplicate: float = Field(0.85, gt=0, le=1)  # cosine from which two elements are the same
    least_new: float = Field(0.2, ge=0, le=1)  # a batch that brings a smaller share of new ones is the last


class ImagesSection(Section):
    """A source of existing images: a folder, a list (JSON, JSONL, CSV, Parquet), or `hf:owner/name`."""

    path: str
    source: str = Field(min_length=1)  # the name its pairs carry, such as coco2017
    kind: Literal["normal", "risky"]
    image_column: str | None = None  # where a list's own names do not tell


class RewriteSection(Section):
    further_tries: int = Field(3, ge=0)  # after a first draft that leaks or fails the check
    max_leakage: float = Field(0.2, ge=0, le=1)  # a draft above it goes back; stricter than the gate


class DrawSection(Section):
    generator: str
    critic: bool = False  # whether the [mllm] judges the pictures and improves their prompts
    similarity: str | None = None  # a CLIP or SigLIP that helps to choose: a folder or a Hub id
    picture: PictureSettings = PictureSettings()
    loop: LoopSettings = LoopSettings()
    machine: MachineSettings = MachineSettings()  # changes no result

    @property
    def asks_server(self) -> bool:
        """Whether the pictures come from an Images-API server, whose price nobody here knows."""
        return self.generator.startswith("openai-images:")


class AuditSection(Section):
    embedder: str
    false_discovery_rate: float = Field(0.05, gt=0, lt=1)


class EngineSection(Section):
    """Workers per stage where `--engine ray` spreads it; changes no result."""

    draw: Pool = Pool()
    audit: Pool = Pool()
    filter: Pool = Pool()


class BenchmarkSection(Section):
    name: str
    license: str = "other"


class Profile(Section):
    """All settings of a run."""

    author: ChatSection
    mllm: ChatSection | None = None
    images: tuple[ImagesSection, ...] = ()
    elements: ElementsSection
    rewrite: RewriteSection = RewriteSection()
    draw: DrawSection
    audit: AuditSection
    filter: FilterSettings = FilterSettings()
    balance: BalanceSettings
    benchmark: BenchmarkSection
    engine: EngineSection = EngineSection()


def load_profile(name: str) -> Profile:
    """An embedded profile by name, or any TOML file by path."""
    path = Path(name) if name.endswith(".toml") else EMBEDDED / f"{name}.toml"
    if not path.exists():
        if name.endswith(".toml"):
            raise UserError(f"There is no profile file {name}.")
        embedded = sorted(file.stem for file in EMBEDDED.glob("*.toml"))
        raise unknown("profile", name, [*embedded, "or a path ending in .toml"])
    try:
        return Profile.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the profile {name}: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The profile {name} is not valid TOML: {error}.") from error
    except ValidationError as error:
        raise UserError(f"The profile {name} is not right: {_problems(error)}.") from error


def _problems(error: ValidationError) -> str:
    """Each problem as `section.key: what is wrong`, with the known keys where one is unknown."""
    said = []
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            said.append(f"unknown key {place} (known there: {', '.join(_known_keys(problem['loc']))})")
        else:
            said.append(f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return "; ".join(said)


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Profile
    for part in place[:-1]:
        if isinstance(part, str):  # a number tells which of a list of tables
            section = _model_in(section.model_fields[part].annotation)
    return list(section.model_fields)


def _model_in(annotation: object) -> type[BaseModel]:
    """The section in `Section`, `Section | None` or `tuple[Section, ...]`."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    raise TypeError(f"{annotation} holds no section")
