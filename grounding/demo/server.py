"""The server of the page: it listens, bounds requests, loads nothing from elsewhere, and leaves no file behind."""

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from grounding.demo.limits import Limits

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

LOCAL = ("127.0.0.1", "localhost", "::1")
PAGES_AT_ONCE = 100  # connections; further ones are refused


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address, before the model is loaded in vain. Port 0 is any that is free.

    Raises:
        ValueError: there is no such address, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise ValueError(f"host={host} port={port}: {reason}; name another with host= or port=") from None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for everything that is written while the page runs. It is removed at the end, also after Ctrl-C.

    Gradio, imported within, is told to use it, to report nothing to anybody, and to load nothing from elsewhere.

    Raises:
        ValueError: Gradio is not installed.
    """
    usual = tempfile.tempdir
    # A service manager's signal to stop counts as Ctrl-C, since Python would otherwise end without removing anything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="grounding-demo-") as name:
        tempfile.tempdir = name
        os.environ |= {
            "GRADIO_TEMP_DIR": str(Path(name) / "uploads"),
            "GRADIO_EXAMPLES_CACHE": str(Path(name) / "examples"),
            "GRADIO_ALLOWED_PATHS": "",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_SHARE": "False",
            "GRADIO_SSR_MODE": "False",
            "GRADIO_MCP_SERVER": "False",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        try:
            import gradio  # noqa: F401

            yield Path(name)
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ValueError('the page needs Gradio: pip install "phrase-grounding[demo]"') from None
        finally:
            tempfile.tempdir = usual


def make_app(page: "gradio.Blocks", folder: Path, limits: Limits, *, host: str) -> "FastAPI":
    """The page as a web application, with a guard in front of Gradio.

    Args:
        page: the page.
        folder: of the uploads.
        limits: the most that is accepted.
        host: the address that the server listens on. On this machine's own, requests that were meant for another name
            are refused, so that other pages cannot reach this one through a name of theirs.
    """
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from grounding.demo.guard import Guard

    names = [*LOCAL, "[::1]"] if host in LOCAL else ["*"]
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=names),
            Middleware(Guard, folder=folder, limits=limits),
        ],
    )
    gr.mount_gradio_app(
        app,
        page,
        path="",
        server_name=host,
        footer_links=[],
        run_history=False,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        ssr_mode=False,
        max_file_size=limits.bytes,
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css_paths=Path(__file__).with_name("page.css"),
    )
    return app


def serve(page: "gradio.Blocks", listening: socket.socket, folder: Path, limits: Limits, *, host: str) -> None:
    """Serve the page until Ctrl-C, which is raised again when the server has ended."""
    import uvicorn

    app = make_app(page, folder, limits, host=host)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=PAGES_AT_ONCE,
        timeout_graceful_shutdown=1,  # second; an open page holds a connection
    )
    uvicorn.Server(config).run(sockets=[listening])
