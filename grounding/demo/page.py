"""The page: photo, caption and choices on the left, the answer on the right."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.demo.answering import Answerer, Choices
from grounding.demo.markup import answer_markup, examples_markup, message_markup
from grounding.examples import example_photos
from grounding.messages import describe_failure
from grounding.names import METHODS

if TYPE_CHECKING:
    import gradio

log = logging.getLogger("demo")

HERE = Path(__file__).resolve().parent
NAMES = {"best": "c-MWP at two sizes", **METHODS, "mcg": "MCG", "mcg_fast": "MCG, faster", "edge_boxes": "EdgeBoxes"}
INTRODUCTION = """# Phrase grounding
Type a caption, and see where in the photo each of its phrases is. The model learned its words from whole photos and
their captions or tags. No box taught it a word."""


def make_page(answerer: Answerer, folder: Path) -> "gradio.Blocks":
    """Build the page, which opens with the answer to the first example.

    Args:
        answerer: grounds captions. Its first answer, which takes longest, is given here.
        folder: Gradio's folder of uploaded photos.

    Raises:
        ValueError: the example cannot be grounded with these settings.
    """
    import gradio as gr

    photos, captions = zip(*example_photos().items(), strict=True)

    def respond(photo: Any, caption: Any, method: Any, proposals: Any, is_own: Any, exponent: Any) -> str:
        choices = Choices(method, proposals, None if is_own else exponent)
        return answer_upload(answerer, photo, caption, choices, folder)

    def receive(photo: Any, caption: Any, *choices: Any) -> tuple[Any, str]:
        kept = "" if caption in captions else caption  # another photo does not show what an example's caption says
        return kept, respond(photo, kept, *choices)

    def choose(event: gr.EventData) -> tuple[str, str]:
        index = range(len(photos))[int(event.index)]
        return str(photos[index]), captions[index]

    start = Choices(answerer.methods[0], answerer.proposal_methods[0])
    first = answer_markup(answerer(photos[0], photos[0].name, captions[0], start))
    with gr.Blocks(title="Phrase grounding", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = gr.Image(
                    str(photos[0]), type="filepath", image_mode=None, label="Photo", sources=["upload", "clipboard"],
                    height=240, buttons=[], elem_id="upload",
                )  # fmt: skip
                caption = gr.Textbox(captions[0], label="Caption", lines=2, max_lines=6, elem_id="typed")
                button = gr.Button("Find the phrases", variant="primary")
                examples = gr.HTML(
                    examples_markup(dict(zip(photos, captions, strict=True))),
                    elem_id="examples",
                    js_on_load=script("examples.js"),
                    apply_default_css=False,
                )
                with gr.Accordion("Attention, proposals and γ", open=False, elem_id="choices"):
                    method = gr.Dropdown(named(answerer.methods), value=start.method, label="Attention")
                    proposals = gr.Dropdown(named(answerer.proposal_methods), value=start.proposals, label="Proposals")
                    is_own = gr.Checkbox(True, label="γ that was chosen for the method")
                    exponent = gr.Slider(
                        0, 1, 0.4, step=0.05, label="γ: 0 prefers large regions, 1 small ones", visible=False
                    )
            with gr.Column(scale=3, min_width=300):
                answer = gr.HTML(first, elem_id="answer", js_on_load=script("answer.js"), apply_default_css=False)
        asked = [photo, caption, method, proposals, is_own, exponent]
        # Values arrive as the browser sends them: Gradio opens no file before `answer_upload` has checked it.
        how: dict[str, Any] = {"preprocess": False, "concurrency_id": "model", "concurrency_limit": 1}
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [answer]}
        is_own.change(lambda own: gr.update(visible=not own), is_own, exponent, queue=False, show_progress="hidden")
        photo.upload(receive, asked, [caption, answer], **how, **quiet)
        for event in (button.click, caption.submit, method.input, proposals.input, is_own.input, exponent.release):
            event(respond, asked, answer, **how, **quiet, trigger_mode="always_last")
        examples.select(choose, None, [photo, caption], api_visibility="private", show_progress="hidden").then(
            respond, asked, answer, **how, **quiet
        )
    page.queue(max_size=answerer.limits.queue)
    return page


def answer_upload(answerer: Answerer, photo: Any, caption: Any, choices: Choices, folder: Path) -> str:
    """Answer what a browser sent: an answer as HTML, or a message that says what is wrong with it.

    Args:
        answerer: grounds captions.
        photo: what Gradio's image component sends: a mapping with the path of the upload, or None.
        caption: the caption.
        choices: the methods.
        folder: Gradio's folder of uploaded photos.
    """
    try:
        path, name = find_upload(photo, folder)
        return answer_markup(answerer(path, name, caption, choices))
    except ValueError as error:
        return message_markup(str(error))
    except Exception as error:  # of any type: libraries that decode photos raise many
        log.error("error: %s", describe_failure("an answer", error))
        return message_markup("something went wrong with this photo or caption; the terminal says what")


def find_upload(photo: Any, folder: Path) -> tuple[Path, str]:
    """The path of an uploaded photo, and its name as the visitor knows it.

    Raises:
        ValueError: there is none, or the path leads out of the folder.
    """
    if photo is None:
        raise ValueError("Drop a photo on the page, or choose an example")
    path = photo.get("path") if isinstance(photo, dict) else None
    if not isinstance(path, str) or "\0" in path or not Path(path).resolve().is_relative_to(folder.resolve()):
        raise ValueError("the photo was not uploaded to this page")
    name = photo.get("orig_name")
    return Path(path), name if isinstance(name, str) and name else Path(path).name


def named(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """Options with their names for people."""
    return [(NAMES.get(option, option), option) for option in options]


def script(name: str) -> str:
    """The content of a file of this package."""
    return (HERE / name).read_text(encoding="utf-8")
