"""The local server of the studio: pages, footage and actions, for one person on one machine.

It answers only to those who have the token of the first address, only under the host name it was
started with, and only to pages of its own.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline.outputs.writers import WRITERS
from touchline.pipeline.report.match_page import score_curves
from touchline.pipeline.studio.answers import answer_about
from touchline.pipeline.studio.engine import Engine
from touchline.pipeline.studio.html import page_html, page_script, page_style
from touchline.pipeline.studio.media import WAVEFORM_STEP_S, Playing, Proxies, original, waveform
from touchline.pipeline.studio.pictures import picture_at
from touchline.pipeline.teaching.actions import ActionError, State
from touchline.pipeline.teaching.journal import JournalError
from touchline.pipeline.teaching.output import export_events, save_model
from touchline.pipeline.teaching.project import Match, Project
from touchline.pipeline.teaching.review import estimate_missed

COOKIE = "touchline_studio"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
GONE = "no such file. Put it back; your marks are kept"
LEARNT_WITHIN_S = 60.0
WRITTEN = "was written to while the studio ran. Start the studio again"
MAX_BODY_BYTES = 1 << 20
LOOK_S, SIGN_OF_LIFE_S = 0.2, 15.0
PROXIES_FOLDER, WAVEFORMS_FOLDER = "copies", "waveforms"


class Guard:
    """Refuse requests without the cookie, for another host, or from pages of others."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        answer: ASGIApp = self._app
        if refusal is not None:
            answer = _json({"error": refusal}, 403)
        elif request.url.path == "/" and "token" in request.query_params:
            answer = self._first_answer(request)
        await answer(scope, receive, with_headers)

    def _first_answer(self, request: Request) -> Response:
        """Give the cookie, and take the token out of sight."""
        answer = RedirectResponse("/", status_code=303)
        # The name holds the port: cookies do not tell ports of one host apart.
        answer.set_cookie(
            self._cookie(request), self._token, httponly=True, samesite="strict", path="/"
        )
        return answer

    def _refusal(self, request: Request) -> str | None:
        if request.headers.get("host", "") not in self._hosts:
            return "this is not the address that the studio was started with"
        origin = request.headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return "requests from other pages are refused"
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "requests from other pages are refused"
        given = request.query_params.get("token") if request.url.path == "/" else None
        given = given or request.cookies.get(self._cookie(request), "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return "open the address that `touchline studio` printed: it holds the key"
        return None

    @staticmethod
    def _cookie(request: Request) -> str:
        return f"{COOKIE}_{request.url.port or 80}"


class Studio:
    """The answers of the server; `app` is what an ASGI server runs."""

    def __init__(
        self, project: Project, engine: Engine, *, token: str, hosts: frozenset[str]
    ) -> None:
        """Put a project on the web.

        Args:
            project: The open project.
            engine: Its work.
            token: What the first address holds, and then the cookie.
            hosts: The host names with ports that requests may name.
        """
        self._project = project
        self._engine = engine
        self._closing = asyncio.Event()
        self._proxies = Proxies(project.folder / PROXIES_FOLDER)
        self._pages = {
            "/": ("text/html", page_html(project.folder.resolve().name)),
            "/studio.js": ("text/javascript", page_script()),
            "/studio.css": ("text/css", page_style()),
        }
        routes = [Route(path, self._page) for path in self._pages]
        routes += [
            Route("/api/project", self._read(self._whole)),
            Route("/api/matches/{match}/proposals", self._read(self._proposals)),
            Route("/api/matches/{match}/curves", self._read(self._curves)),
            Route("/api/matches/{match}/waveform", self._read(self._waveform)),
            Route("/api/matches/{match}/picture", self._picture),
            Route("/api/matches/{match}/proxy", self._write(self._make_proxy), methods=["POST"]),
            Route("/api/matches/{match}/ask", self._write(self._ask), methods=["POST"]),
            Route("/api/formats", self._read(lambda _: list(WRITERS))),
            Route("/api/do", self._write(self._do), methods=["POST"]),
            Route("/api/export", self._write(self._export), methods=["POST"]),
            Route("/api/model", self._write(self._save_model), methods=["POST"]),
            Route("/api/updates", self._updates),
            Route("/media/{match}", self._media),
        ]
        handlers: dict[Any, Any] = {
            HTTPException: _plain_error,
            ActionError: _error_of(400),
            ValueError: _error_of(400),
            JournalError: _error_of(507),
            TouchlineError: _error_of(422),
            OSError: _error_of(500),
            Exception: _error_of(500),
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        self.app: ASGIApp = Guard(app, token=token, hosts=hosts)

    def close(self) -> None:
        """End the streams of updates, so that the server can stop."""
        self._closing.set()

    async def _page(self, request: Request) -> Response:
        kind, text = self._pages[request.url.path]
        return Response(text, media_type=kind, headers={"cache-control": "no-store"})

    def _read(self, answer: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            made = await run_in_threadpool(answer, request)
            return _json(made)

        return respond

    def _write(
        self, answer: Callable[[Request, dict[str, Any]], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            body = await _json_body(request)
            return _json(await run_in_threadpool(answer, request, body))

        return respond

    def _match(self, request: Request) -> Match:
        match = self._project.matches.get(request.path_params["match"])
        if match is None:
            raise HTTPException(404, "there is no such match in this project")
        return match

    def _whole(self, _: Request) -> dict[str, Any]:
        state = self._project.state
        return {
            "revision": self._project.revision,
            "name": self._project.folder.resolve().name,
            "canUndo": self._project.can_undo,
            "canRedo": self._project.can_redo,
            "classes": [
                {"id": one.id, "name": one.name, "colour": one.colour} for one in state.classes
            ],
            "matches": [self._match_row(m, state) for m in self._project.matches.values()],
            "learning": self._learning_row(),
        }

    def _match_row(self, match: Match, state: State) -> dict[str, Any]:
        problem, health = match.problem, None
        try:
            if not match.path.exists():
                raise FootageError(match.path, GONE)
            health = self._project.health_of(match.id)
            known = problem is None and match.content is not None
            if known and not self._project.is_unchanged(match.id):
                raise FootageError(match.path, WRITTEN)
        except FootageError as error:
            problem = str(error)
        marks = [mark for mark in state.marks.values() if mark.match == match.id]
        rejected = [no for no in state.rejected.values() if no.match == match.id]
        playing = Playing(match.path, 0.0, 0.0, False, "not readable")
        if health is not None:
            playing = self._proxies.playing(match, health)
        rate = None if health is None else health.frame_rate
        numerator, _, denominator = (rate or "25/1").partition("/")
        return {
            "id": match.id,
            "name": match.path.name,
            "durationS": 0.0 if health is None else health.duration_s,
            "frameRate": float(numerator) / float(denominator or 1),
            "media": {
                "src": f"/media/{match.id}?file={'copy' if playing.path != match.path else 'own'}",
                "startS": playing.start_s,
                "offsetS": playing.offset_s,
                "played": playing.played,
                "kind": playing.kind,
            },
            "problem": problem,
            "features": self._features_row(match.id),
            "proxy": self._proxy_row(match),
            "marks": [
                {
                    "id": mark.id, "class": mark.label, "start": mark.start_s, "end": mark.end_s,
                    "note": mark.note, "source": mark.source,
                }
                for mark in sorted(marks, key=lambda mark: mark.start_s)
            ],
            "rejected": [
                {"id": no.id, "class": no.label, "start": no.start_s, "end": no.end_s}
                for no in sorted(rejected, key=lambda no: no.start_s)
            ],
        }  # fmt: skip

    def _features_row(self, match_id: str) -> dict[str, Any]:
        one = self._engine.features[match_id]
        return {
            "state": one.state, "doneS": one.done_s, "etaS": one.eta_s, "problem": one.problem,
        }  # fmt: skip

    def _proxy_row(self, match: Match) -> dict[str, Any]:
        one = self._proxies.progress(match)
        return {"state": one.state, "done": float(one.state == "done"), "problem": one.problem}

    def _learning_row(self) -> dict[str, Any]:
        one = self._engine.learning
        return {
            "state": one.state, "version": one.version, "seconds": one.seconds,
            "problem": one.problem, "waitsFor": one.waits_for,
        }  # fmt: skip

    def _proposals(self, request: Request) -> dict[str, Any]:
        match = self._match(request)
        version = self._engine.learning.version
        proposals = self._engine.proposals(match.id)
        state = self._project.state
        missed = estimate_missed(state, [one.event.score for one in proposals])
        return {
            "version": version,
            "proposals": [
                {
                    "id": f"p{n}", "class": one.event.label, "start": one.event.start_s,
                    "end": one.event.end_s, "peak": one.event.peak_s,
                    "score": round(one.event.score, 4), "accepted": one.accepted,
                    "teaches": round(one.teaches, 4),
                }
                for n, one in enumerate(proposals)
            ],
            "counts": {
                "confirmed": sum(m.match == match.id for m in state.marks.values()),
                "open": sum(one.accepted for one in proposals),
                "rejected": sum(r.match == match.id for r in state.rejected.values()),
            },
            "missed": None
            if missed is None
            else {
                "estimate": missed.estimate, "low": missed.low, "high": missed.high,
                "text": str(missed),
            },
        }  # fmt: skip

    def _curves(self, request: Request) -> dict[str, Any]:
        match, learned = self._match(request), self._engine.learned
        version = self._engine.learning.version
        if learned is None or match.id not in learned.tracks:
            return {"version": version, "stepS": 1.0, "values": {}}
        labels = learned.labels[1:]
        curves = score_curves(learned.tracks[match.id], labels)
        values = dict(zip(labels, curves["values"], strict=True))
        return {"version": version, "stepS": curves["stepS"], "values": values}

    def _waveform(self, request: Request) -> dict[str, Any]:
        match = self._match(request)
        health = self._project.health_of(match.id)
        levels = waveform(match, health, self._project.folder / WAVEFORMS_FOLDER)
        return {"stepS": WAVEFORM_STEP_S, "values": base64.b64encode(levels.tobytes()).decode()}

    async def _picture(self, request: Request) -> Response:
        match = self._match(request)
        time_s = _number(request, "t", 0.0, 1e7)
        width = round(_number(request, "w", 16, 1920, default=224))
        near = "near" in request.query_params
        picture = await run_in_threadpool(self._picture_of, match, time_s, width, near)
        if picture is None:
            raise HTTPException(404, "there is no picture at this time yet")
        # The picture of a time never changes.
        return Response(
            picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
        )

    def _picture_of(self, match: Match, time_s: float, width: int, near: bool) -> bytes | None:
        if near:
            stored = self._engine.pictures(match.id)
            return None if stored is None else stored.near(time_s)
        health = self._project.health_of(match.id)
        return picture_at(match.path, time_s, width, health.stream_index)

    async def _media(self, request: Request) -> Response:
        match = self._match(request)
        health = await run_in_threadpool(self._project.health_of, match.id)
        playing = original(match, health)
        if request.query_params.get("file") == "copy":
            playing = await run_in_threadpool(self._proxies.playing, match, health)
        if not playing.path.is_file():
            raise FootageError(playing.path, GONE)
        return FileResponse(playing.path, headers={"cache-control": "no-store"})

    def _make_proxy(self, request: Request, _: dict[str, Any]) -> dict[str, Any]:
        match = self._match(request)
        self._proxies.make(match, self._project.health_of(match.id))
        self._engine.wake()
        return self._proxy_row(match)

    def _ask(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        match, question = self._match(request), body.get("question")
        if not isinstance(question, str):
            raise ActionError("the question must be a text")
        return answer_about(match, self._project, self._engine, question)

    def _do(self, _: Request, action: dict[str, Any]) -> dict[str, Any]:
        revision, made = self._project.do(action)
        self._engine.wake()
        return {"revision": revision, "id": made}

    def _export(self, _: Request, body: dict[str, Any]) -> dict[str, Any]:
        formats = body.get("formats")
        if not isinstance(formats, list) or not all(isinstance(name, str) for name in formats):
            raise ActionError("formats must be a list of names")
        paths, problems = export_events(self._project, formats)
        if not paths and not problems:
            raise ActionError("there is no confirmed event to export yet")
        labels = self._project.write_labels()
        return {"files": [str(path) for path in [*paths, labels]], "problems": problems}

    def _save_model(self, _: Request, __: dict[str, Any]) -> dict[str, Any]:
        if not self._engine.wait_until_learnt(LEARNT_WITHIN_S):
            raise ActionError("learning is still under way. Try again in a minute")
        trunk, learned = self._engine.model, self._engine.learned
        if trunk is None or learned is None:
            waits_for = self._engine.learning.waits_for or "the first features"
            raise ActionError(f"nothing has been learnt yet. It waits for {waits_for}")
        path = save_model(self._project, trunk, learned)
        shown = os.path.relpath(path)
        return {
            "path": str(path),
            "text": f"Detect with it: touchline detect OTHER.mp4 --model {shown} --spots",
        }

    async def _updates(self, request: Request) -> Response:
        async def messages() -> AsyncIterator[str]:
            seen: tuple[Any, ...] = ()
            silent_s = 0.0
            while not self._closing.is_set() and not await request.is_disconnected():
                news = await run_in_threadpool(self._news)
                now = (self._engine.changes, json.dumps(news["proxy"]), news["revision"])
                if now != seen or silent_s >= SIGN_OF_LIFE_S:
                    seen, silent_s = now, 0.0
                    yield f"data: {json.dumps(news)}\n\n"
                await asyncio.sleep(LOOK_S)
                silent_s += LOOK_S

        return StreamingResponse(
            messages(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    def _news(self) -> dict[str, Any]:
        matches = self._project.matches
        return {
            "revision": self._project.revision,
            "learning": self._learning_row(),
            "features": {name: self._features_row(name) for name in matches},
            "proxy": {name: self._proxy_row(match) for name, match in matches.items()},
        }


def _json(content: Any, status: int = 200) -> Response:
    """Answer with JSON in ASCII: names of files may hold what UTF-8 does not."""
    return Response(
        json.dumps(content, allow_nan=False),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


async def _json_body(request: Request) -> dict[str, Any]:
    """Read the JSON object of a request, of at most MAX_BODY_BYTES."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "the request is too large")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return value


def _number(
    request: Request, name: str, least: float, most: float, *, default: float | None = None
) -> float:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise HTTPException(400, f"{name} must be a number from {least:g} to {most:g}")
    return value


async def _plain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code)


def _error_of(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def respond(_: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, status)

    return respond
