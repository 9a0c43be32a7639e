"""One server that speaks the OpenAI protocol, through the `openai` client; what goes wrong is a fault."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from data.errors import UserError, missing_package
from data.llm.faults import Fault, fault_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI = "https://api.openai.com/v1"
JSON = {"headers": {"Content-Type": "application/json"}}


class Answer(NamedTuple):
    """An HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Upload(NamedTuple):
    """A file for the server, and what for."""

    purpose: str
    content: bytes


class Connection:
    """The client of a server and the key it is opened with, which nothing else ever sees.

    `openai.AsyncOpenAI` on its aiohttp transport. Its retries are off: they know nothing of the pace
    that all calls share. Replies are read by us: its models cost more CPU than the call itself.
    """

    def __init__(self, base_url: str | None, key_variable: str, timeout_seconds: float) -> None:
        try:
            import aiohttp  # noqa: F401 - the transport
            import httpx2
            import openai
        except ImportError as error:
            raise missing_package("openai[aiohttp]", "llm") from error
        self._key = os.environ.get(key_variable)
        if not self._key and base_url is None:
            raise UserError(f"Set the environment variable {key_variable} to your API key.")
        self.url = (base_url or OPENAI).rstrip("/")
        self.address = _address(self.url)
        self.reached = False  # whether the server ever answered
        self._openai, self._raw = openai, httpx2.Response
        self._timeout_seconds = timeout_seconds
        self._client: AsyncOpenAI | None = None

    async def send(self, method: str, path: str, body: bytes | Upload | None = None) -> Answer | Fault:
        """One request and its answer, whatever its status; a fault when there is none."""
        try:
            response = await self._request(method, path, body)
        except self._openai.APIStatusError as error:
            response = error.response
        except self._openai.APIConnectionError as error:
            return self._broken(error)
        self.reached = True
        return Answer(response.status_code, response.headers, response.content)

    def _broken(self, error: Exception) -> Fault:
        """The fault of a call that brought no answer; the client calls a refused connection a time-out."""
        if _never_connected(error):
            return Fault("connection", f"cannot connect to {self.address}", passing=True)
        self.reached = True
        if isinstance(error, self._openai.APITimeoutError):
            return Fault("timeout", f"no answer within {self._timeout_seconds:g} s", passing=True)
        return Fault("connection", f"the connection broke ({type(error.__cause__).__name__})", passing=True)

    async def _request(self, method: str, path: str, body: bytes | Upload | None) -> Any:
        client: Any = self._open()  # its generic calls for paths it has no method for
        if method == "GET":
            return await client.get(path, cast_to=self._raw)
        if isinstance(body, Upload):
            file = ("requests.jsonl", body.content, "application/jsonl")
            form = {"purpose": body.purpose}
            options = {"headers": {"Content-Type": "multipart/form-data"}}
            return await client.post(
                path, cast_to=self._raw, body=form, files={"file": file}, options=options
            )
        return await client.post(path, cast_to=self._raw, content=body, options=JSON)

    def fault(self, answer: Answer, model: str) -> Fault:
        """What an answer other than 200 means. Raises `UserError` for what stops the run."""
        said = answer.content.decode(errors="replace").replace(self._key or "\0", "***")
        return fault_of(answer.status, answer.headers, said, self.address, model)

    def _open(self) -> AsyncOpenAI:
        """The client, opened by the first call: it belongs to the loop that runs then."""
        if self._client is None:
            self._client = self._openai.AsyncOpenAI(
                api_key=self._key or "none",  # local servers ask for no key, the client for some text
                base_url=self.url,
                max_retries=0,
                timeout=self._timeout_seconds,
                http_client=self._openai.DefaultAioHttpClient(timeout=self._timeout_seconds),
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def _address(url: str) -> str:
    """Host and port of a server, without the password before them. Raises `UserError` for what is no address."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.netloc.rpartition("@")[2]
    except ValueError:  # brackets that do not close, a port beyond all ports
        pass
    raise UserError(
        f"base_url {url.rpartition('@')[2]!r} is no server's address: it is written http://HOST:PORT/v1."
    )


def _never_connected(error: BaseException) -> bool:
    """Whether no connection came about, as opposed to one that broke; an unknown host is a kind of that."""
    cause: BaseException | None = error
    while cause is not None:
        if any(kind.__name__ in ("ConnectError", "ClientConnectorError") for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
