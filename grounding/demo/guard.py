"""A guard in front of Gradio: the size of requests, the number of uploads, no other files and no other addresses."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grounding.demo.limits import Limits

MARGIN = 100_000  # bytes of a request beside the photo
# The browser loads nothing from another address, whatever Gradio's pages name. Gradio makes functions of texts (eval).
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Refuses what the page never asks, and passes everything else on.

    Args:
        app: the application behind the guard.
        folder: where uploads are kept.
        limits: the most that is accepted.
    """

    def __init__(self, app: ASGIApp, *, folder: Path, limits: Limits) -> None:
        self.app = app
        self.folder = folder
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(send)
            refusal = self._refuse(scope)
            if refusal is None and scope["method"] == "POST":
                if scope["path"].endswith("/upload"):
                    forget_oldest(self.folder, keep=self.limits.uploads - 1)
                else:
                    body = await _read(receive)
                    receive = _once(body, receive)
                    refusal = self._refuse_body(body)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        """A refusal of a request for its address or its length, or None."""
        path = scope["path"].lower()
        if "=http:" in path or "=https:" in path or "/proxy=" in path:  # Gradio would fetch it
            return PlainTextResponse("The page loads nothing from other addresses.", 403)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return PlainTextResponse("The request does not say how long it is.", 411)
        if int(length) > MARGIN + (self.limits.bytes if path.endswith("/upload") else 0):
            return PlainTextResponse(f"A photo has at most {self.limits.megabytes:g} MB.", 413)
        return None

    def _refuse_body(self, body: bytes) -> PlainTextResponse | None:
        """A refusal of a request that names a file which was not uploaded, or None.

        Gradio copies a file that a request names to its folder, from where it can be read.
        """
        try:
            paths = named_paths(body)
        except (ValueError, RecursionError):
            return PlainTextResponse("The request is no JSON.", 400)
        if all(path is None or is_within(path, self.folder) for path in paths):
            return None
        return PlainTextResponse("The photo was not uploaded to this page.", 403)


def named_paths(body: bytes) -> list[Any]:
    """The values of ``path`` anywhere in JSON, those of repeated names included.

    Raises:
        ValueError: it is no JSON.

    >>> named_paths(b'{"data": [{"path": "a", "path": "b"}, 3]}')
    ['a', 'b']
    """
    found: list[Any] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        found.extend(value for name, value in pairs if name == "path")

    json.loads(body, object_pairs_hook=collect)
    return found


def is_within(path: Any, folder: Path) -> bool:
    """Whether a path leads into a folder, also where links are followed."""
    return isinstance(path, str) and "\0" not in path and Path(path).resolve().is_relative_to(folder.resolve())


def forget_oldest(folder: Path, *, keep: int) -> None:
    """Delete all files of a folder, and of those in it, but the newest."""
    for path in _by_age(path for path in folder.rglob("*") if path.is_file())[keep:]:
        path.unlink(missing_ok=True)


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Paths of files, the newest first."""
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


async def _read(receive: Receive) -> bytes:
    """The body of a request; what came of it before the browser went away."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


def _once(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been read to the next who asks, and then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                *((name.encode(), value.encode()) for name, value in HEADERS.items()),
            ]
        await send(message)

    return send_with_headers
