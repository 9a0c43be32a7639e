"""`--batch` where a server has no Batch API: that model is asked one by one, and the run says so at the start."""

from __future__ import annotations

import asyncio
import sys

from construct.profile import ChatSection, Profile
from data.errors import UserError
from data.llm.batch_server import lacks_batch_api


def find_one_by_one(profile: Profile) -> frozenset[ChatSection]:
    """The chat models that cannot be asked in batches. Raises `UserError` where none can be.

    Only servers named by a `base_url` are asked for it: the one that is meant by none has a Batch API.
    """
    served = [each for each in (profile.author, profile.mllm) if each and each.kind == "openai"]
    lacking = frozenset(section for section in served if asyncio.run(_lacks(section)))
    if served and lacking.issuperset(served):
        raise UserError("No server that this profile names has a Batch API: leave out --batch.")
    for section in lacking:
        print(
            f"note: the server of {section.model} has no Batch API: it is asked one by one, at its full price.",
            file=sys.stderr,
        )
    return lacking


async def _lacks(section: ChatSection) -> bool:
    return section.base_url is not None and await lacks_batch_api(section.base_url, section.key_variable)
