"""The review page as a web application: token, host check, and the desk behind a few addresses."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import AfterValidator, BaseModel
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import UserError
from data.pages.page import render_page
from filter.review_desk import Desk, TextChanged, check_name

TEMPLATE = Path(__file__).with_name("templates") / "review.html"
PICTURES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
HEADERS = {
    b"content-security-policy": b"frame-ancestors 'none'",  # the page's own policy says the rest
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",  # the address holds the token
    b"cache-control": b"no-store",
}

Name = Annotated[str, AfterValidator(check_name)]


class Decision(BaseModel):
    """What the page sends when a key was pressed."""

    reviewer: Name
    pair: str
    action: Literal["approve", "reject", "edit"]
    shown: str  # the query that was on the page
    instruction: str = ""
    reason: str = ""


class Undo(BaseModel):
    reviewer: Name


class Gatekeeper:
    """Lets nobody in without the token, nor by another name than this machine's own."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # nothing here speaks WebSocket

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        because = self._objection(scope)
        if because:
            await Response(because + "\n", 403, media_type="text/plain")(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _objection(self, scope: Scope) -> str:
        """Why a request may not pass; empty when it may."""
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return "This page answers to 127.0.0.1 and localhost only."
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return "This page takes no requests from other sites."
        shown = headers.get("x-review-token") or QueryParams(scope["query_string"]).get("token", "")
        if not secrets.compare_digest(shown.encode(), self._token.encode()):
            return "Wrong or missing token: open the address that filter.review printed."
        return ""


def make_app(desk: Desk, token: str, port: int) -> Gatekeeper:
    """The application, for a server on this port of 127.0.0.1."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(UserError)
    async def refuse(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409 if isinstance(error, TextChanged) else 400)

    @app.get("/")
    def page() -> HTMLResponse:
        values = {"run": desk.folder.resolve().name, "limit": desk.max_leakage}
        return HTMLResponse(render_page(TEMPLATE, values, served=True))

    @app.get("/pairs")
    async def pairs(reviewer: Annotated[Name, Query()]) -> JSONResponse:
        return JSONResponse({"pairs": [line._asdict() for line in desk.overview(reviewer)]})

    @app.get("/pairs/{pair}")
    async def card(pair: str, reviewer: Annotated[Name, Query()]) -> JSONResponse:
        if pair not in desk.pairs:
            return JSONResponse({"error": "There is no such pair in this run."}, 404)
        return JSONResponse(desk.card(pair, reviewer))

    @app.get("/pictures/{pair}")
    def picture(pair: str) -> Response:
        return _picture(desk, pair)

    @app.post("/decisions")
    async def decide(decision: Decision) -> JSONResponse:
        await asyncio.to_thread(desk.decide, **decision.model_dump())
        return JSONResponse(desk.card(decision.pair, decision.reviewer))

    @app.post("/undo")
    async def undo(asked: Undo) -> JSONResponse:
        pair = await asyncio.to_thread(desk.undo, asked.reviewer)
        return JSONResponse({"pair": pair})

    @app.get("/agreement")
    async def agreement() -> JSONResponse:
        return JSONResponse({"agreement": desk.agreement()})

    return Gatekeeper(app, token, frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost")))


def _picture(desk: Desk, pair: str) -> Response:
    """The pair's picture file, if it is one and lies in the run's folder."""
    from PIL import Image, UnidentifiedImageError

    known = desk.pairs.get(pair)
    path = (desk.folder / known.image_path).resolve() if known and known.image_path else None
    if path is None or not path.is_relative_to(desk.folder.resolve()):
        return Response(status_code=404)
    try:
        with Image.open(path) as image:
            media_type = PICTURES.get(image.format or "")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Response(status_code=404)
    if media_type is None:
        return Response(status_code=404)
    return Response(path.read_bytes(), media_type=media_type)
