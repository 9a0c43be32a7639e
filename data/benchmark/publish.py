"""Publishing a built benchmark on the Hugging Face Hub: private and gated unless told otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data.errors import UserError, missing_package

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OURS = ("data/*", "imgs/*", "charts/*")  # folders of which a push leaves nothing of an earlier build


class Parcel(NamedTuple):
    """A file that would go, and its size in bytes."""

    path: str
    size: int


class Terms(NamedTuple):
    """Who may see it."""

    private: bool = True
    gated: bool = True


def contents(folder: Path) -> list[Parcel]:
    """What a push would send, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Parcel(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def describe_push(folder: Path, repository: str, terms: Terms) -> str:
    """What would go where, on which terms; nothing is sent."""
    check_name(repository)
    parcels = contents(folder)
    total = sum(parcel.size for parcel in parcels)
    kinds: dict[str, list[int]] = {}
    for parcel in parcels:
        top = parcel.path.split("/")[0] + ("/" if "/" in parcel.path else "")
        kinds.setdefault(top, []).append(parcel.size)
    lines = [
        f"  {name:<24} {len(sizes):>6} files {sum(sizes) / 1e6:>10.2f} MB" for name, sizes in kinds.items()
    ]
    who = "private" if terms.private else "public"
    gate = "gated (you grant access)" if terms.gated else "open without asking"
    head = (
        f"Would push {len(parcels)} files, {total / 1e6:.2f} MB, to the dataset {repository}: {who}, {gate}."
    )
    return "\n".join(
        [
            head,
            *lines,
            f"What else lies there under {', '.join(OURS)} would be deleted: an earlier build's files.",
            "Nothing was sent. Without --dry-run it goes; an interrupted push resumes.",
        ]
    )


def push(folder: Path, repository: str, terms: Terms, api: HfApi | None = None) -> str:
    """Send the folder; returns the dataset's address. Closed first, filled then: nothing is open in between.

    Shards and pictures of an earlier build that this one has no more are deleted there.
    The token comes from the environment or the Hub's own login. Raises `UserError` when the Hub refuses.
    """
    check_name(repository)
    try:
        import httpx2  # what the Hub's client speaks HTTP with
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError as error:
        raise missing_package("huggingface_hub", "build") from error
    hub = api or HfApi()
    try:
        address = hub.create_repo(repository, repo_type="dataset", private=terms.private, exist_ok=True)
        hub.update_repo_settings(
            repository, repo_type="dataset", private=terms.private, gated="manual" if terms.gated else False
        )
        hub.upload_folder(
            repo_id=repository, folder_path=folder, repo_type="dataset", commit_message="Benchmark and card",
            delete_patterns=list(OURS),
        )  # fmt: skip
    except LocalTokenNotFoundError as error:
        raise UserError("The Hub does not know you: run `hf auth login`, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"The Hub refuses ({said}): the same command resumes once that is mended.") from error
    except ValueError as error:  # how its client tells that the Hub found fault with the card
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"The Hub does not take the card ({said}): build it anew, with another --license, say."
        ) from error
    except (OSError, httpx2.HTTPError) as error:
        raise UserError(f"The Hub cannot be reached ({error}): the same command resumes later.") from error
    return str(address)


def check_name(repository: str) -> None:
    """Raise `UserError` unless this is owner/name, as the Hub allows it."""
    part = r"\b[\w.-]{1,96}\b"
    if not re.fullmatch(f"{part}/{part}", repository, re.ASCII) or re.search(r"--|\.\.|\.git$", repository):
        raise UserError(
            f"--push takes owner/name, not {repository!r}: the Hub allows letters, digits, '_', '-' and '.', "
            "but no '--', no '..' and no '.git' at the end."
        )
