"""The page: photo, caption and choices on the left, the answer on the right."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the page that react to a visitor."""

    photo: "gradio.Image"
    caption: "gradio.Textbox"
    button: "gradio.Button"
    examples: "gradio.HTML"
    method: "gradio.Dropdown"
    proposals: "gradio.Dropdown"
    is_own: "gradio.Checkbox"  # whether γ is the one that was chosen for the method
    exponent: "gradio.Slider"
    answer: "gradio.HTML"


def make_page(answerer: Answerer) -> "gradio.Blocks":
    """Build the page, which opens with the answer to the first example.

    Args:
        answerer: grounds captions. Its first answer, which takes longest, is given here.

    Raises:
        ValueError: the example cannot be grounded with these settings.
    """
    import gradio as gr

    examples = example_photos()
    with gr.Blocks(title="Phrase grounding", analytics_enabled=False, fill_width=True) as page:
        parts = lay_out(answerer, examples)
        connect(parts, answerer, examples)
    page.queue(max_size=answerer.limits.queue)
    return page


def lay_out(answerer: Answerer, examples: Mapping[Path, str]) -> Parts:
    """Lay out the parts of the page, with the first example and its answer in them."""
    import gradio as gr

    photo, caption = next(iter(examples.items()))
    start = Choices(answerer.methods[0], answerer.proposal_methods[0])
    answer = answer_markup(answerer(photo, photo.name, caption, start))
    gr.Markdown(INTRODUCTION, elem_id="introduction")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            inputs = (
                gr.Image(
                    str(photo), type="filepath", label="Photo", sources=["upload", "clipboard"], height=240, buttons=[]
                ),
                gr.Textbox(caption, label="Caption", max_lines=6),
                gr.Button("Find the phrases", variant="primary"),
                gr.HTML(
                    examples_markup(examples),
                    elem_id="examples",
                    js_on_load=script("examples.js"),
                    apply_default_css=False,
                ),
            )
            with gr.Accordion("Attention, proposals and γ", open=False, elem_id="choices"):
                choices = (
                    gr.Dropdown(named(answerer.methods), value=start.method, label="Attention"),
                    gr.Dropdown(named(answerer.proposal_methods), value=start.proposals, label="Proposals"),
                    gr.Checkbox(True, label="γ that was chosen for the method"),
                    gr.Slider(0, 1, 0.4, step=0.05, label="γ: 0 prefers large regions, 1 small ones", visible=False),
                )
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(answer, elem_id="answer", js_on_load=script("answer.js"), apply_default_css=False)
    return Parts(*inputs, *choices, shown)


def connect(parts: Parts, answerer: Answerer, examples: Mapping[Path, str]) -> None:
    """Connect the parts of the page with what they do."""
    import gradio as gr

    def respond(photo: Any, caption: Any, method: Any, proposals: Any, is_own: Any, exponent: Any) -> str:
        choices = Choices(method, proposals, None if is_own else exponent)
        return answer_upload(answerer, photo, caption, choices)

    def receive(photo: Any, caption: Any, *choices: Any) -> tuple[Any, str]:
        kept = "" if caption in examples.values() else caption  # what an example shows is not in another photo
        return kept, respond(photo, kept, *choices)

    def choose(event: gr.EventData) -> tuple[str, str]:
        path, caption = list(examples.items())[event.index]
        return str(path), caption

    asked = [parts.photo, parts.caption, parts.method, parts.proposals, parts.is_own, parts.exponent]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    # Values arrive as the browser sends them: Gradio opens no photo before its size has been checked.
    slow: dict[str, Any] = {
        "preprocess": False,
        "concurrency_id": "model",
        "concurrency_limit": 1,
        "api_visibility": "private",
        "show_progress_on": [parts.answer],
    }
    parts.photo.upload(receive, asked, [parts.caption, parts.answer], **slow)
    events = [parts.button.click, parts.caption.submit, parts.method.input, parts.proposals.input, parts.is_own.input]
    for event in (*events, parts.exponent.release):
        event(respond, asked, parts.answer, trigger_mode="always_last", **slow)
    parts.is_own.change(lambda is_own: gr.update(visible=not is_own), parts.is_own, parts.exponent, **quiet)
    chosen = parts.examples.select(choose, None, [parts.photo, parts.caption], **quiet)
    chosen.then(respond, asked, parts.answer, **slow)


def answer_upload(answerer: Answerer, photo: Any, caption: Any, choices: Choices) -> str:
    """Answer what a browser sent: an answer as HTML, or a message that says what is wrong with it.

    Args:
        answerer: grounds captions.
        photo: what Gradio's image component sends: a mapping with the path of the upload, or None.
        caption: the caption.
        choices: the methods.
    """
    try:
        path, name = find_upload(photo)
        return answer_markup(answerer(path, name, caption, choices))
    except ValueError as error:
        return message_markup(str(error))
    except Exception as error:  # of any type: libraries that decode photos raise many
        log.error("error: %s", describe_failure("an answer", error))
        return message_markup("Something went wrong with this photo or caption; the terminal says what")


def find_upload(photo: Any) -> tuple[Path, str]:
    """The path of an uploaded photo, and its name as the visitor knows it.

    Raises:
        ValueError: there is none.
    """
    path = photo.get("path") if isinstance(photo, dict) else None
    if not isinstance(path, str):
        raise ValueError("Drop a photo on the page, or choose an example")
    name = photo.get("orig_name")
    return Path(path), name if isinstance(name, str) and name else Path(path).name


def named(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """Options with their names for people."""
    return [(NAMES.get(option, option), option) for option in options]


def script(name: str) -> str:
    """The content of a file of this package."""
    return (HERE / name).read_text(encoding="utf-8")
