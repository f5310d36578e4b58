"""The parts of the page as HTML: an answer, a message, the example photos. All text of visitors is escaped."""

import html
import io
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from grounding.demo.answering import Answer
from grounding.draw import colour_of, fit, heat
from grounding.files import json_bytes
from grounding.messages import printable
from grounding.records import GroundedPhrase

FINEST = 200  # cells of a map's longer side, as it is sent; the browser enlarges it further
BOXES = 3  # of a phrase that is pointed at
THUMBNAIL = 160  # pixels
HEADS = ("Phrase", "Best box: x1 y1 x2 y2", "Right", "There", "Unknown words")  # of the table


def answer_markup(answer: Answer) -> str:
    """An answer: the caption with its phrases, the photo with its boxes and maps, a table, and a link to the JSON."""
    grounding = answer.grounding
    if not grounding.phrases:
        hint = "There is no noun phrase in the caption: name a thing in the photo, such as “a dog”."
    else:
        hint = "Point at a phrase, or at a box, to see where its attention is. A click keeps it."
    height, width = grounding.size
    return f"""
<div class="answer">
  <p class="caption">{"".join(_caption(answer))}</p>
  <p class="hint">{hint}</p>
  <div class="photo" style="aspect-ratio: {width} / {height}; --aspect: {width / height:.4f}">
    <img class="plain" alt="The photo" src="{_data_url(answer.shown, "JPEG", quality=88)}">
    {"".join(_map(phrase, index, answer.shown) for index, phrase in enumerate(grounding.phrases))}
    <svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{"".join(_boxes(answer))}</svg>
    {"".join(_label(phrase, index, grounding.size) for index, phrase in enumerate(grounding.phrases))}
  </div>
  {_table(answer) if grounding.phrases else ""}
  <a class="download" download="{escape(Path(answer.name).stem)}.json" href="{_json_url(answer)}">Download JSON</a>
</div>"""


def message_markup(message: str) -> str:
    """A message in the place of an answer."""
    return f'<div class="message" role="alert">{escape(message)}</div>'


def examples_markup(examples: Mapping[Path, str]) -> str:
    """The example photos, as buttons."""
    buttons = (
        f'<button type="button" data-example="{index}" title="{escape(caption)}">'
        f'<img alt="{escape(caption)}" src="{_thumbnail(path)}"></button>'
        for index, (path, caption) in enumerate(examples.items())
    )
    return f'<p>Examples</p><div class="examples">{"".join(buttons)}</div>'


def escape(text: str) -> str:
    """Escape text for HTML, and for the templates of Gradio, to which braces and ``$`` mean something.

    >>> escape('<b title="a">{{x}} ${y}</b>')
    '&lt;b title=&quot;a&quot;&gt;&#123;&#123;x&#125;&#125; &#36;&#123;y&#125;&lt;/b&gt;'
    """
    escaped = html.escape(printable(text))
    return escaped.translate({ord(character): f"&#{ord(character)};" for character in "{}$`\\"})


def answer_json(answer: Answer) -> bytes:
    """The content of the JSON file of an answer: what ``python -m grounding`` writes, and the choices."""
    values = {"image": printable(answer.name), "choices": asdict(answer.choices), **answer.grounding.to_dict()}
    return json_bytes(values)


def _caption(answer: Answer) -> Iterator[str]:
    """The caption in pieces, of which phrases are buttons."""
    (caption,) = answer.grounding.captions
    written = 0
    for index, phrase in enumerate(answer.grounding.phrases):
        start, end = phrase.span
        yield escape(caption[written:start])
        guess = "" if phrase.is_attended else " guess"
        yield (
            f'<button type="button" class="phrase{guess}" data-phrase="{index}" aria-pressed="false" '
            f'style="--hue: {colour_of(index)}">{escape(caption[start:end])}</button>'
        )
        written = end
    yield escape(caption[written:])


def _map(phrase: GroundedPhrase, index: int, shown: Image.Image) -> str:
    if phrase.attention is None:
        return ""
    alt = f"Attention to “{escape(phrase.text)}”"
    return f'<img class="map" data-phrase="{index}" alt="{alt}" src="{_map_url(phrase.attention, shown)}">'


def _map_url(attention: Tensor, shown: Image.Image) -> str:
    """A map as a picture whose transparency is the lack of attention."""
    scale = FINEST / max(shown.size)
    colours, opacity = heat(attention, (max(round(shown.height * scale), 1), max(round(shown.width * scale), 1)))
    pixels = np.concatenate([colours, (opacity * 255).astype(np.uint8)], axis=-1)
    return _data_url(Image.fromarray(pixels), "WEBP", quality=80)


def _boxes(answer: Answer) -> Iterator[str]:
    """The best boxes of all phrases, largest first, so that the smaller ones can be pointed at."""
    boxes = [
        (index, rank, box)
        for index, phrase in enumerate(answer.grounding.phrases)
        for rank, box in enumerate(phrase.regions.boxes[:BOXES].tolist())
    ]
    for index, rank, (x1, y1, x2, y2) in sorted(boxes, key=lambda box: -_area(*box[2])):
        guess = "" if answer.grounding.phrases[index].is_attended else " guess"
        place = f'x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"'
        yield f'<g class="box rank{rank}{guess}" data-phrase="{index}" style="--hue: {colour_of(index)}">'
        yield f'<rect class="halo" {place}/><rect class="line" {place}/></g>'


def _area(x1: float, y1: float, x2: float, y2: float) -> float:
    return (x2 - x1) * (y2 - y1)


def _label(phrase: GroundedPhrase, index: int, size: tuple[int, int]) -> str:
    """The name of a phrase in a corner of its best box: the right one if the box begins in the photo's right half."""
    if not phrase.is_attended:
        return ""
    height, width = size
    x1, y1, x2, _ = phrase.regions.boxes[0].tolist()
    side = f"left: {100 * x1 / width:.2f}%" if 2 * x1 <= width else f"right: {100 - 100 * x2 / width:.2f}%"
    place = f"--hue: {colour_of(index)}; {side}; top: {100 * y1 / height:.2f}%"
    return f'<span class="label" data-phrase="{index}" style="{place}">{escape(phrase.text)}</span>'


def _table(answer: Answer) -> str:
    rows = "".join(_row(phrase, index) for index, phrase in enumerate(answer.grounding.phrases))
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(phrase: GroundedPhrase, index: int) -> str:
    corners = " ".join(f"{edge:.0f}" for edge in phrase.regions.boxes[0].tolist())
    chances = ["–" if chance is None else f"{chance:.0%}" for chance in (phrase.probability, phrase.presence)]
    understood = [f"{word} as {', '.join(known)}" for word, known in phrase.understood.items()]
    texts = (
        chances[0] if phrase.is_attended else "a guess",
        chances[1],
        "; ".join([*phrase.skipped_words, *understood]),
    )
    cells = (f'<span class="dot"></span>{escape(phrase.text)}', corners, *map(escape, texts))
    return (
        f'<tr data-phrase="{index}" style="--hue: {colour_of(index)}">'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _json_url(answer: Answer) -> str:
    return f"data:application/json;base64,{b64encode(answer_json(answer)).decode()}"


def _thumbnail(path: Path) -> str:
    with Image.open(path) as photo:
        return _data_url(fit(photo.convert("RGB"), THUMBNAIL, THUMBNAIL)[0], "JPEG", quality=85)


def _data_url(picture: Image.Image, form: str, *, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=quality)
    return f"data:image/{form.lower()};base64,{b64encode(buffer.getvalue()).decode()}"
