"""``python -m grounding.demo``: a page in the browser that grounds captions in photos."""

import logging
from typing import Any

import hydra

from grounding.command_line import attempt, free_texts, run_command
from grounding.config import CONFIG_DIR, DemoSettings, plain_settings

log = logging.getLogger("demo")


def main() -> None:
    """The command line."""
    run_command(run, "demo_settings", DemoSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="demo", version_base="1.3")
def run(settings: Any) -> None:
    """Show the page until Ctrl-C."""
    attempt(lambda: show_page(settings), log, if_interrupted="the page is closed, and its photos are deleted")


def show_page(settings: Any) -> bool:
    """Load the model, and serve the page until Ctrl-C.

    Raises:
        ValueError: a setting is wrong, the address is not free, or Gradio is not installed.
    """
    model = plain_settings("model", settings.model)
    methods, proposal_methods = free_texts(settings, "methods"), free_texts(settings, "proposal_methods")
    from grounding.demo.limits import Limits

    limits = Limits(
        megabytes=settings.most_megabytes,
        megapixels=settings.most_megapixels,
        caption=settings.longest_caption,
        uploads=settings.most_uploads,
        queue=settings.queue,
    )
    from rich.console import Console

    from grounding.demo.server import listen, serve, temporary_folder

    with listen(settings.host, settings.port) as socket, temporary_folder() as folder:
        console = Console(stderr=True)
        with console.status("loading the model"):
            from grounding.demo.answering import Answerer
            from grounding.demo.page import make_page

            answerer = Answerer(model, methods, proposal_methods, limits, device=settings.device)
            page = make_page(answerer)
        port = socket.getsockname()[1]
        log.info("The page is at http://%s:%d (Ctrl-C ends it)", settings.host, port)
        serve(page, socket, folder, limits, host=settings.host)
    return True


if __name__ == "__main__":
    main()
