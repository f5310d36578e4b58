"""A guard in front of Gradio: the size of requests, the number of uploads, and no address but this one."""

from collections.abc import Iterable
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grounding.demo.limits import Limits

MARGIN = 1_000_000  # bytes of a request beside the photo
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
    """Refuses what the page never needs, and passes everything else on.

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
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refuse(scope)
        if refusal is None and scope["method"] == "POST" and scope["path"].endswith("/upload"):
            forget_oldest(self.folder, keep=self.limits.uploads - 1)
        await (refusal or self.app)(scope, receive, _with_headers(send))

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        """A refusal, or None for a request that may pass."""
        path = scope["path"].lower()
        if "=http:" in path or "=https:" in path or "/proxy=" in path:  # Gradio would fetch it
            return PlainTextResponse("The page loads nothing from other addresses.", 403)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        length = dict(scope["headers"]).get(b"content-length")
        if length is None or not length.isdigit():
            return PlainTextResponse("The request does not say how long it is.", 411)
        if int(length) > self.limits.bytes + MARGIN:
            return PlainTextResponse(f"A photo has at most {self.limits.megabytes:g} MB.", 413)
        return None


def forget_oldest(folder: Path, *, keep: int) -> None:
    """Delete all files of a folder, and of those in it, but the newest."""
    for path in _by_age(path for path in folder.rglob("*") if path.is_file())[keep:]:
        path.unlink(missing_ok=True)


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Paths of files, the newest first."""
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                *((name.encode(), value.encode()) for name, value in HEADERS.items()),
            ]
        await send(message)

    return send_with_headers
