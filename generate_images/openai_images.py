"""Pictures from a server that speaks the OpenAI Images API: a paid one, or one of your own."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data.errors import RowFailed, UserError, missing_package
from data.llm.faults import OUT_OF_MONEY, fault_of
from data.quality import Flaw, in_plain_colour
from data.records import Drawing
from generate_images.drawn import Drawn, Size
from generate_images.settings import MachineSettings, PictureSettings

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import APIStatusError
    from PIL.Image import Image

Answer = tuple["Image | None", Flaw | RowFailed | None]

RETRIES = 5  # by the client: 408, 409, 429, 5xx and dropped connections, honouring Retry-After
SIDE = 1024


class OpenAIImages:
    """`images/generations` as a `StreamingGenerator`; several requests are in flight at once.

    OpenAI's own models take no seed, so their pictures cannot be drawn again; a server of one's own,
    named by `base_url`, is sent the seed, and the steps, guidance and negative prompt that were asked for.
    """

    def __init__(self, model: str, picture: PictureSettings, machine: MachineSettings) -> None:
        try:
            import openai
        except ImportError as error:
            raise missing_package("openai", "llm") from error
        key = os.environ.get(machine.key_variable)
        if not key and machine.images_url is None:
            raise UserError(f"Set the environment variable {machine.key_variable} to your API key.")
        self.name = f"openai-images:{model}"
        self._model, self._picture, self._workers = model, picture, machine.workers
        self._own_server = machine.images_url is not None
        self._openai, self._key = openai, key
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=machine.images_url,
            max_retries=RETRIES,
            timeout=machine.timeout_seconds,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [_once_if_out_of_money]}),
        )

    def plan(self, prompt: str, seed: int, size: Size | None = None) -> Drawing:
        """What will be asked for."""
        picture = self._picture
        width, height = size or Size(picture.width or SIDE, picture.height or SIDE)
        return Drawing(
            generator=self.name, prompt=prompt, seed=seed, steps=picture.steps, guidance=picture.guidance,
            width=width, height=height, negative_prompt=picture.negative_prompt,
            note="" if self._own_server else "this service takes no seed",
        )  # fmt: skip

    def stream(self, drawings: Sequence[Drawing]) -> Iterator[Drawn]:
        """Pictures as they arrive; one that the provider refuses to draw is a flaw of that picture.

        After an error or Ctrl-C nothing more is asked, but what is under way still comes: it is paid for.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            left = {pool.submit(self._draw, drawing): place for place, drawing in enumerate(drawings)}
            try:
                for done in as_completed(list(left)):
                    yield Drawn(left[done], *done.result())
                    del left[done]  # only now: Ctrl-C may have kept the last one from being taken
            except (Exception, KeyboardInterrupt):
                for done in as_completed([each for each in left if not each.cancel()]):
                    if done.exception() is None:
                        yield Drawn(left[done], *done.result())
                raise
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
            own = {
                "seed": drawing.seed,
                "steps": drawing.steps,
                "guidance_scale": drawing.guidance,
                "negative_prompt": drawing.negative_prompt or None,
            }
            asked["extra_body"] = {name: value for name, value in own.items() if value is not None}
        if not self._model.startswith(("gpt-image", "chatgpt-image")):
            asked["response_format"] = "b64_json"  # those models know no other, and refuse the word
        try:
            reply = self._client.images.generate(**asked)
        except openai.APIStatusError as error:
            return None, self._problem(error)
        except openai.APITimeoutError:
            return None, RowFailed("timeout", "the server did not answer in time")
        except openai.APIConnectionError as error:
            raise UserError("The connection to the image server failed; is it running?") from error
        except json.JSONDecodeError:
            return None, RowFailed("no_image", "the server's reply is not JSON")
        return _picture(reply)

    def _problem(self, error: APIStatusError) -> Flaw | RowFailed:
        """What an HTTP error says of this picture. Raises `UserError` where it says so of all."""
        address = urlsplit(str(self._client.base_url)).netloc.rpartition("@")[2]
        said = error.response.text.replace(self._key or "\0", "***")
        fault = fault_of(error.status_code, error.response.headers, said, address, self._model)
        if fault.reason == "blocked":
            return Flaw("provider_blocked", "the provider refused to draw it", another_seed=False)
        return RowFailed(fault.reason, fault.detail)


def _once_if_out_of_money(response: Response) -> None:
    """Keep the client from asking again for an account without credit; it goes by this header."""
    if response.status_code == 429 and OUT_OF_MONEY.search(response.read().decode(errors="replace")):
        response.headers["x-should-retry"] = "false"


def _picture(reply: Any) -> Answer:
    """The PNG, JPEG or WebP in a reply, which a server that is none answers with anything at all."""
    from PIL import Image

    data = getattr(reply, "data", None)
    content = getattr(data[0], "b64_json", None) if isinstance(data, list) and data else None
    if not isinstance(content, str) or not content:
        return None, RowFailed("no_image", "the server's reply holds no picture (b64_json)")
    try:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            return in_plain_colour(image), None  # some of their backgrounds are transparent
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        return None, RowFailed("no_image", f"the server's picture cannot be read: {type(error).__name__}")
