"""The filter's settings, as a profile's `[filter]` and `[balance]` tables give them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(BaseModel):
    """A key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FilterSettings(Settings):
    """The gates' limits."""

    max_leakage: float = Field(0.3, ge=0, le=1)
    max_text_harm: float = Field(0.95, ge=0, le=1)  # of the query on its own, by the auditor
    verify: bool = True  # ask the MLLM whether text and picture match and are risky together
    read_pictures: Literal["auto", "on", "off"] = "auto"  # OCR; auto: where rapidocr is installed
    near_duplicate: float = Field(0.88, gt=0, le=1)  # cosine from which two texts say the same
    near_duplicate_image: float = Field(0.12, ge=0, lt=0.5)  # share of a fingerprint's signs that may differ
    image_embedder: str = ""  # a CLIP or SigLIP folder; empty: fingerprints alone
    near_duplicate_image_cosine: float = Field(0.95, gt=0, le=1)  # by that embedder


class BalanceSettings(Settings):
    """What the benchmark should be made of."""

    size: int = Field(gt=0)  # rows the benchmark should hold, shared out by the taxonomy
    at_least: int = Field(1, ge=0)  # rows per sub-category whatever its share
    shares: dict[str, Share] = {}  # your own, by category or sub-category; the others share the rest

    @field_validator("shares")
    @classmethod
    def _fit_the_taxonomy(cls, shares: dict[str, float]) -> dict[str, float]:
        """Shares that cannot be are refused when a run begins, not at its last stage."""
        if shares:
            from data.taxonomy import load_taxonomy
            from filter.balance import with_shares

            with_shares(load_taxonomy(), shares)
        return shares
