"""A multimodal chat model as the critic of the improvement loop; replies come through the shared client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

from data.errors import RowFailed, UserError
from data.llm.chat import Asker
from data.llm.pictures import picture
from data.prompts import Prompt, load_prompt
from generate_images.improve import Case, Review


def review_prompt() -> Prompt:
    """What a critic is asked; its fingerprint belongs to the settings of a run."""
    return load_prompt(Path(__file__).with_name("prompts") / "review.md")


class ChatCritic:
    """Asks for reviews, `workers` at once, in an event loop of its own: drawing itself is not asynchronous.

    The asker must be this critic's alone, for its connections belong to that loop.
    """

    def __init__(self, asker: Asker, workers: int = 8) -> None:
        self.name = f"critic:{asker.chat.model}"
        self._asker = asker
        self._prompt = review_prompt()
        self._workers = workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="critic", daemon=True)
        self._thread.start()

    def review(self, cases: Sequence[Case]) -> list[Review | RowFailed]:
        """One review per case; where the model gives none, the failure in its place."""
        return asyncio.run_coroutine_threadsafe(self._review_all(cases), self._loop).result()

    async def _review_all(self, cases: Sequence[Case]) -> list[Review | RowFailed]:
        """After an error only the user can mend no case is begun; those under way are finished, being paid for."""
        free = asyncio.Semaphore(self._workers)
        stopped: list[UserError] = []

        async def review(case: Case) -> Review:
            async with free:
                if stopped:
                    raise stopped[0]
                try:
                    return await self._review(case)
                except UserError as error:
                    stopped.append(error)
                    raise

        reviews: list[Review | RowFailed] = []
        for given in await asyncio.gather(*map(review, cases), return_exceptions=True):
            if isinstance(given, BaseException) and not isinstance(given, RowFailed):
                raise given
            reviews.append(given)
        return reviews

    async def _review(self, case: Case) -> Review:
        system, user = self._prompt.fill(description=case.description, prompt=case.prompt)
        return await self._asker.ask(system, user, Review, pictures=[picture(case.image)])

    def close(self) -> None:
        """Close the connections and the loop; what Ctrl-C left under way is called off."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._asker.chat.close()
