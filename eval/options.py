"""What the numbers on a command line may be, the same for every command; and the judge where none is named."""

from __future__ import annotations

from argparse import Namespace

from data.errors import UserError

DEFAULT_JUDGE = "openai:gpt-4o"  # as in the original
COUNTS = ("limit", "max_new_tokens", "max_pixels", "batch_size", "workers", "actors")
ABOVE_0 = ("timeout", "requests_per_minute", "tokens_per_minute")
FROM_0 = ("temperature", "budget", "gpus")


def check_numbers(options: Namespace) -> None:
    """Raise `UserError` at the first number that a command could not work with; those not given are fine."""
    for name, value in vars(options).items():
        if value is None:
            continue
        if name in COUNTS and value < 1:
            raise _wrong(name, "from 1 upwards", value)
        if name in ABOVE_0 and not value > 0:  # not a number is none either
            raise _wrong(name, "above 0", value)
        if name in FROM_0 and not value >= 0:
            raise _wrong(name, "from 0 upwards", value)


def _wrong(name: str, span: str, value: float) -> UserError:
    return UserError(f"--{name.replace('_', '-')} takes a number {span}, not {value:g}.")
