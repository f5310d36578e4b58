"""The functions of the page, without a browser and without Gradio."""

import json
import re
import sys
from base64 import b64decode
from io import BytesIO
from zlib import crc32

import pytest
from command_settings import QUICK, composed
from PIL import Image

import grounding.demo.__main__ as command
from grounding.config import compose_grounder
from grounding.demo.answering import Answerer, Choices
from grounding.demo.limits import Limits, check_caption
from grounding.demo.markup import answer_json, answer_markup, escape, examples_markup, message_markup
from grounding.demo.page import answer_upload, find_upload, named
from grounding.demo.server import listen
from grounding.examples import example_photos

BOXES = Choices("cmwp", "edge_boxes")
MAPS = re.compile(r'<img class="map" data-phrase="(\d+)" alt="([^"]*)" src="data:image/webp;base64,([^"]+)"')


@pytest.fixture(scope="module")
def answerer():
    """The page's answerer with methods that take a fraction of a second."""
    return Answerer(compose_grounder(list(QUICK)).model, ["cmwp", "mwp"], ["edge_boxes"], Limits())


@pytest.fixture
def photo(tmp_path, examples):
    path = tmp_path / "cup.jpg"
    Image.fromarray(examples["coffee"]).resize((240, 160)).save(path)
    return path


def test_an_answer_is_that_of_the_grounder(answerer, photo, quick_grounder):
    answer = answerer(photo, "cup.jpg", " A cup beside a qwyjibo\n", BOXES)
    assert [phrase.text for phrase in answer.grounding.phrases] == ["A cup", "a qwyjibo"]
    assert answer.grounding.size == (160, 240)
    assert answer.shown.size == (240, 160)
    seen = answerer._see(photo.read_bytes(), "cup.jpg", "edge_boxes")
    expected = quick_grounder.attention([seen.read.prepared], [["cup"]])[0].maps["cup"]
    assert (answer.grounding.phrases[0].attention == expected).all()


def test_method_and_area_exponent_change_the_answer(answerer, photo):
    def boxes(*choices):
        (phrase,) = answerer(photo, "cup.jpg", "A cup", Choices(*choices)).grounding.phrases
        return phrase.regions

    own, other, wide, narrow = (
        boxes("cmwp", "edge_boxes"),
        boxes("mwp", "edge_boxes"),
        boxes("cmwp", "edge_boxes", 0),
        boxes("cmwp", "edge_boxes", 1),
    )
    assert own.scores.tolist() != other.scores.tolist()
    assert area(wide.boxes[0]) > area(narrow.boxes[0])
    chosen = answerer.settings["cmwp"].area_exponents["boxes"]
    assert boxes("cmwp", "edge_boxes", chosen).boxes.tolist() == own.boxes.tolist()


def area(box):
    x1, y1, x2, y2 = box.tolist()
    return (x2 - x1) * (y2 - y1)


def test_a_photo_is_read_once_while_caption_and_exponent_change(answerer, photo, monkeypatch):
    answerer(photo, "cup.jpg", "A cup", BOXES)
    monkeypatch.setattr("grounding.demo.answering.read_photo", None)
    answerer(photo, "cup.jpg", "A spoon", Choices("mwp", "edge_boxes", 0.7))
    with pytest.raises(TypeError):
        answerer(photo, "another.jpg", "A spoon", BOXES)


@pytest.mark.parametrize(
    ("caption", "choices", "message"),
    [
        ("", BOXES, "Type a caption"),
        (" \n", BOXES, "Type a caption"),
        (None, BOXES, "Type a caption"),
        ("a cup " * 1700, BOXES, "The caption has 10,200 characters, and the page takes at most 1,000"),
        ("A cup \ud800", BOXES, "not valid text"),
        ("A cup", Choices("grad", "edge_boxes"), "does not offer grad with edge_boxes"),
        ("A cup", Choices("cmwp", "stored"), "does not offer cmwp with stored"),
        ("A cup", Choices("cmwp", "edge_boxes", "large"), "area_exponent must be from 0 to 10, got 'large'"),
        ("A cup", Choices("cmwp", "edge_boxes", float("nan")), "area_exponent must be from 0 to 10, got nan"),
    ],
)
def test_what_cannot_be_answered_is_told(answerer, photo, caption, choices, message):
    with pytest.raises(ValueError, match=message):
        answerer(photo, "cup.jpg", caption, choices)


def test_the_longest_caption_is_accepted():
    assert check_caption("a" * 7, Limits(caption=7)) == "a" * 7
    with pytest.raises(ValueError, match="has 8 characters, and the page takes at most 7"):
        check_caption("a" * 8, Limits(caption=7))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no photo", "dog.jpg: not an image, or of an unknown format"),
        (b"", "dog.jpg: the file is empty"),
        (b"x" * 21_000, "dog.jpg has 0.0 MB, and the page takes at most 0.02 MB"),
        (None, "dog.jpg is no longer here"),
    ],
)
def test_broken_uploads_are_told_by_the_visitors_name_for_them(tmp_path, answerer, monkeypatch, content, message):
    monkeypatch.setattr(answerer, "limits", Limits(megabytes=0.02))
    path = tmp_path / "1f2e3d.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        answerer(path, "dog.jpg", "A dog", BOXES)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (9000, 10_000, "large.png has 90.0 megapixels, and the page takes at most 50: scale it down"),
        (20_000, 20_000, "large.png: too large"),  # PIL itself refuses it
    ],
)
def test_photos_of_too_many_pixels_are_refused_by_their_head(tmp_path, answerer, width, height, message):
    path = tmp_path / "large.png"
    Image.new("1", (10, 10)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")  # there are no such pixels
    content[29:33] = crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        answerer(path, "large.png", "A cup", BOXES)


def test_an_upload_has_the_visitors_name():
    assert find_upload({"path": "/1f/cup.jpg", "orig_name": "My cup.jpg"})[1] == "My cup.jpg"
    assert find_upload({"path": "/1f/cup.jpg", "orig_name": None})[1] == "cup.jpg"
    for photo in (None, "cup.jpg", {}, {"path": None}, {"path": 3}, [{"path": "cup.jpg"}]):
        with pytest.raises(ValueError, match="Drop a photo"):
            find_upload(photo)


def test_the_answer_as_html_holds_all_of_it(answerer, photo):
    caption = "A cup on a table, and A cup: {{x}} ${y} <b>a spoon</b>"
    answer = answerer(photo, "my <cup>.jpg", caption, BOXES)
    markup = answer_markup(answer)
    phrases = answer.grounding.phrases
    shown = re.search('<p class="caption">(.*?)</p>', markup)[1]
    assert re.sub("<[^>]*>", "", shown) == escape(caption)
    assert len(re.findall("<button", shown)) == len(phrases)
    assert "<b>" not in markup
    assert "{" not in markup
    assert "$" not in markup
    maps = {int(index): image for index, _, image in MAPS.findall(markup)}
    assert set(maps) == {index for index, phrase in enumerate(phrases) if phrase.attention is not None}
    with Image.open(BytesIO(b64decode(maps[0]))) as image:
        assert image.size == (200, 133)
        assert image.mode == "RGBA"
        attention = phrases[0].attention
        row, column = divmod(int(attention.argmax()), attention.shape[1])
        opacity = image.getchannel("A").resize(attention.shape[::-1], Image.Resampling.BOX)
        assert opacity.getpixel((column, row)) > 0.6 * opacity.getextrema()[1]
    assert markup.count('class="halo"') == sum(min(len(phrase.regions), 3) for phrase in phrases)


def test_the_json_is_that_of_the_command_with_the_choices(answerer, photo):
    answer = answerer(photo, "cup.jpg", "A cup", Choices("mwp", "edge_boxes", 0.5))
    values = json.loads(answer_json(answer))
    assert values.pop("choices") == {"method": "mwp", "proposals": "edge_boxes", "area_exponent": 0.5}
    assert values.pop("image") == "cup.jpg"
    assert values == answer.grounding.to_dict()
    link = re.search(r'download="cup.json" href="data:application/json;base64,([^"]+)"', answer_markup(answer))
    assert b64decode(link[1]) == answer_json(answer)


@pytest.mark.parametrize("caption", ["Quickly!", "It runs", "A qwyjibo"])
def test_captions_without_phrases_or_known_words_have_an_answer(answerer, photo, caption):
    answer = answerer(photo, "cup.jpg", caption, BOXES)
    markup = answer_markup(answer)
    assert not MAPS.findall(markup)
    assert ("There is no noun phrase" in markup) == (not answer.grounding.phrases)
    assert markup.count("a guess") == len(answer.grounding.phrases)


def test_any_failure_is_a_message(answerer, photo, caplog, monkeypatch):
    def ask(value):
        return answer_upload(answerer, value, "A cup", BOXES)

    assert 'class="answer"' in ask({"path": str(photo), "orig_name": "cup.jpg"})
    assert 'class="message"' in ask(None)
    monkeypatch.setattr(answerer, "_grounder", lambda choices: {}["secret"])
    assert ask({"path": str(photo)}) == message_markup(
        "Something went wrong with this photo or caption; the terminal says what"
    )
    assert "KeyError: 'secret'" in caplog.text


def test_messages_are_escaped():
    assert message_markup("a <b>: no") == '<div class="message" role="alert">a &lt;b&gt;: no</div>'


def test_examples_are_buttons_with_small_pictures():
    markup = examples_markup(example_photos())
    assert re.findall('data-example="(.)"', markup) == ["0", "1", "2", "3"]
    assert len(markup) < 60_000


def test_options_have_names():
    assert named(("best", "cmwp", "of_mine")) == [
        ("c-MWP at two sizes", "best"),
        ("c-MWP", "cmwp"),
        ("of_mine", "of_mine"),
    ]


@pytest.mark.parametrize(
    ("methods", "proposals", "message"),
    [
        (["nosuch"], ["mcg"], "Could not find 'attention/nosuch'"),
        (["best"], ["nosuch"], "Could not find 'proposals/nosuch'"),
        ([], ["mcg"], "name at least one of each"),
        (["best"], ["stored"], "Missing mandatory value: proposals.path"),
    ],
)
def test_options_that_do_not_exist_are_refused_before_the_model_is_loaded(methods, proposals, message):
    with pytest.raises(ValueError, match=message):
        Answerer({}, methods, proposals, Limits())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"megapixels": 90}, "most_megapixels must be from 0.01 to 89, got 90"),
        ({"megabytes": 0}, "most_megabytes must be from 0.01 to 1000, got 0"),
        ({"queue": 0}, "queue must be from 1 to 1000, got 0"),
        ({"caption": -1}, "longest_caption must be from 1 to 100000, got -1"),
        ({"uploads": 0}, "most_uploads must be from 1 to 10000, got 0"),
    ],
)
def test_limits_have_limits(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"host=127.0.0.1 port={port}: Address already in use"):
            listen("127.0.0.1", port)
    with pytest.raises(ValueError, match="port must be from 0 to 65535, got 70000"):
        listen("127.0.0.1", 70_000)


def test_the_command_needs_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("grounding.demo.answering.Answerer", None)
    with pytest.raises(ValueError, match=re.escape('the page needs Gradio: pip install "phrase-grounding[demo]"')):
        command.show_page(composed("port=0", config="demo"))
