from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from grounding.draw import (
    WIDTH,
    _break_lines,
    _drawable,
    _font,
    _has,
    _shorten,
    colour_of,
    draw_grounding,
    draw_sheet,
    overlay,
)
from grounding.records import GroundedPhrase, Grounding, Regions


def phrase(text, span, box, attention=None):
    regions = Regions(torch.tensor([box], dtype=torch.float32), torch.ones(1))
    return GroundedPhrase(text, span, 0, ("cat",), (), regions, attention)


def hexadecimal(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_every_phrase_has_its_colour_on_its_box_and_in_its_caption():
    attention = torch.rand(5, 6)
    caption = "A cat on a mat"
    phrases = (
        phrase("A cat", (0, 5), [10, 10, 40, 40], attention),
        phrase("a mat", (9, 14), [30, 50, 90, 70], attention),
    )
    picture = draw_grounding(torch.full((3, 80, 100), 0.5), Grounding((caption,), (80, 100), phrases))
    assert picture.width == WIDTH
    pixels = np.asarray(picture)
    photo_height = round(80 * (WIDTH - 32) / 100) if 80 / 100 * (WIDTH - 32) <= 640 else 640
    in_photo, below = pixels[:photo_height], pixels[photo_height + 20 : photo_height + 70]
    for index in range(2):
        is_colour = lambda area, i=index: (area == hexadecimal(colour_of(i))).all(-1)  # noqa: E731
        assert is_colour(in_photo).sum() > 500
        assert is_colour(below).sum() > 20


@pytest.mark.parametrize("caption", ["", "x", "A " * 500, "猫が座っている", "one\ntwo", "ein sehr" + "langes" * 200])
def test_any_caption_can_be_drawn(caption):
    picture = draw_grounding(torch.rand(3, 1, 1), Grounding((caption,), (1, 1), ()))
    assert picture.width == WIDTH


def test_letters_that_a_font_lacks_are_replaced_one_for_one():
    text = "Une chatte tigrée – naïve, Straße"
    plain = _drawable(text, ImageFont.load_default(22))
    assert len(plain) == len(text)
    assert all(_has(ImageFont.load_default(22), character) for character in plain if not character.isspace())
    assert _drawable(text, _font(22, text)).startswith("Une chatte tigr")


def test_labels_have_single_spaces_and_are_cut_to_fit():
    assert _shorten("a\n big\tcat", 500, 16) == "a big cat"
    assert _shorten("a very long phrase indeed", 80, 16).endswith("...")


def test_lines_cover_the_text_and_fit():
    text = "several words of a caption that goes on and on " * 3
    font = _font(22, text)
    lines = _break_lines(text, font, 300)
    assert len(lines) > 1
    assert all(font.getlength(text[start:end]) <= 300 for start, end in lines)
    assert " ".join(text[start:end] for start, end in lines).split() == text.split()


def test_an_overlay_is_hottest_where_attention_is_strongest():
    attention = torch.zeros(4, 4)
    attention[1, 2] = 1
    heat = np.asarray(overlay(Image.new("RGB", (80, 80), "black"), attention), dtype=int)
    redness = heat[..., 0] - heat[..., 2]
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert 15 <= row <= 45
    assert 35 <= column <= 65


def test_a_map_without_attention_is_grey():
    shown = np.asarray(overlay(Image.new("RGB", (8, 8), "white"), torch.zeros(2, 2)))
    assert (shown == shown[..., :1]).all()


def test_a_sheet_holds_all_pictures():
    pictures = [Image.new("RGB", (WIDTH, height), "red") for height in (100, 300, 50)]
    sheet = draw_sheet(pictures)
    assert sheet.size == (2 * WIDTH, 300)
    assert (np.asarray(sheet)[..., 0] == 255).all()
    assert np.asarray(sheet)[..., 1].mean() < 255 * 0.4


def test_a_phrase_without_attention_has_a_thin_box_and_no_label():
    photo = torch.full((3, 300, 400), 0.5)

    def coloured_pixels(attention):
        grounding = Grounding(("A cat",), (300, 400), (phrase("A cat", (0, 5), [100, 100, 300, 200], attention),))
        in_photo = np.asarray(draw_grounding(photo, grounding))[: 300 * 640 // 300]
        return (in_photo == hexadecimal(colour_of(0))).all(-1).sum()

    attended, guessed = coloured_pixels(torch.rand(5, 6)), coloured_pixels(None)
    outline = 2 * (200 + 100) * 640 / 300  # pixels of a line around the box
    assert guessed == pytest.approx(outline, rel=0.02)
    assert attended > 3 * outline * 0.98


def test_a_rejected_phrase_has_no_box_and_is_struck_out():
    caption = "A cat on a mat"
    seen = phrase("A cat", (0, 5), [10, 10, 40, 40], torch.rand(5, 6))
    rejected = replace(seen, probability=0.2, presence=0.01, is_rejected=True)
    pictures = [
        np.asarray(draw_grounding(torch.full((3, 80, 100), 0.5), Grounding((caption,), (80, 100), (each,))))
        for each in (seen, rejected)
    ]
    colour = [(picture == hexadecimal(colour_of(0))).all(-1) for picture in pictures]
    assert colour[0][:640].sum() > 500
    assert colour[1][:640].sum() == 0
    below = slice(660, 710)  # the caption
    assert colour[1][below].sum() > colour[0][below].sum()
    assert max(colour[1][below].sum(1)) > 40  # a line through the whole phrase
