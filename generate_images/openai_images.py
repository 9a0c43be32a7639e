"""Pictures from a server that speaks the OpenAI Images API: a paid one, or one of your own."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from data.errors import RowFailed, UserError, missing_package
from data.quality import Flaw
from data.records import Drawing
from generate_images.drawn import Drawn, Size
from generate_images.settings import MachineSettings, PictureSettings

if TYPE_CHECKING:
    from PIL.Image import Image

Answer = tuple["Image | None", Flaw | RowFailed | None]

RETRIES = 5  # by the client: 408, 409, 429, 5xx and dropped connections, honouring Retry-After
SIDE = 1024
BLOCKED = ("content_policy_violation", "moderation_blocked", "content_filter")


class OpenAIImages:
    """`images/generations` as a `StreamingGenerator`; several requests are in flight at once.

    OpenAI's own models take no seed, so their pictures cannot be drawn again; a server of one's own,
    named by `base_url`, is sent the seed, and the steps and guidance that were asked for.
    """

    def __init__(self, model: str, picture: PictureSettings, machine: MachineSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise missing_package("openai", "llm") from error
        base_url = machine.base_url or os.environ.get("OPENAI_BASE_URL")
        key = os.environ.get(machine.key_variable)
        if not key and base_url is None:
            raise UserError(f"Set the environment variable {machine.key_variable} to your API key.")
        self.name = f"openai-images:{model}"
        self._model, self._picture, self._workers = model, picture, machine.workers
        self._own_server = base_url is not None
        self._openai = openai
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=base_url, max_retries=RETRIES, timeout=machine.timeout_seconds
        )

    def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing:
        """What will be asked for."""
        picture = self._picture
        width, height = size or Size(picture.width or SIDE, picture.height or SIDE)
        return Drawing(
            generator=self.name, prompt=prompt, seed=seed, steps=picture.steps, guidance=picture.guidance,
            width=width, height=height, note="" if self._own_server else "this service takes no seed",
        )  # fmt: skip

    def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
        """Pictures as they arrive; one that the provider refuses to draw is a flaw of that picture."""
        with ThreadPoolExecutor(self._workers) as pool:
            asked = {pool.submit(self._draw, drawing): place for place, drawing in enumerate(drawings)}
            try:
                for done in as_completed(asked):
                    yield Drawn(asked[done], *done.result())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _draw(self, drawing: Drawing) -> Answer:
        """The picture, or why there is none. `UserError` for what no other picture would escape."""
        openai = self._openai
        asked: dict[str, Any] = {
            "model": self._model,
            "prompt": drawing.prompt,
            "n": 1,
            "size": f"{drawing.width}x{drawing.height}",
        }
        if self._own_server:
            own = {"seed": drawing.seed, "steps": drawing.steps, "guidance_scale": drawing.guidance}
            asked["extra_body"] = {name: value for name, value in own.items() if value is not None}
        if not self._model.startswith("gpt-image"):
            asked["response_format"] = "b64_json"  # those models know no other, and refuse the word
        try:
            reply = self._client.images.generate(**asked)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(f"The server refused the API key (HTTP {error.status_code}).") from error
        except openai.NotFoundError as error:
            raise UserError(f"The server knows no image model {self._model!r} at this address.") from error
        except openai.BadRequestError as error:
            if error.code in BLOCKED:
                return None, Flaw("provider_blocked", "the provider refused to draw it", another_seed=False)
            raise UserError(f"The server refused the request: {_first_line(error)}") from error
        except openai.APIStatusError as error:
            return None, RowFailed("server_error", f"HTTP {error.status_code}")
        except openai.APITimeoutError:
            return None, RowFailed("timeout", "the server did not answer in time")
        except openai.APIConnectionError as error:
            raise UserError("The connection to the image server failed; is it running?") from error
        return _picture(reply)


def _picture(reply: Any) -> Answer:
    """The PNG, JPEG or WebP in a reply."""
    from PIL import Image, UnidentifiedImageError

    content = reply.data[0].b64_json if reply.data else None
    if not content:
        return None, RowFailed("no_image", "the server's reply holds no picture (b64_json)")
    try:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            return image.convert("RGB"), None
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        return None, RowFailed("no_image", f"the server's picture cannot be read: {type(error).__name__}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
