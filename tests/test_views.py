import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from train.views import View, jitter, mirror_indices, show_photo

VIEW = View((12, 16), 10)


@given(st.integers(1, 300), st.integers(1, 300))
def test_padding_is_the_mirror_image_as_numpy_has_it(length, side):
    side = max(length, side)
    before = (side - length) // 2
    expected = np.pad(np.arange(length), (before, side - length - before), "symmetric")
    assert mirror_indices(length, side).tolist() == expected.tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_a_view_is_a_window_of_the_photo_resized_and_padded(height, width, seed):
    random = np.random.default_rng(seed)
    photo = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    seen = show_photo(photo, VIEW, np.random.default_rng(seed))
    assert seen.shape == (3, 10, 10)
    assert seen.dtype == np.uint8
    assert any(np.array_equal(seen, window) for window in windows(photo))


def windows(photo):
    """All that a view may show of a photo, written as it is said."""
    for side in range(VIEW.resize[0], VIEW.resize[1] + 1):
        scale = side / max(photo.size)
        size = [max(1, round(length * scale)) for length in photo.size]
        pixels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
        missing = [side - length for length in pixels.shape[:2]]
        square = np.pad(pixels, (*[(n // 2, n - n // 2) for n in missing], (0, 0)), "symmetric").transpose(2, 0, 1)
        for top in range(side - VIEW.crop + 1):
            for left in range(side - VIEW.crop + 1):
                window = square[:, top : top + VIEW.crop, left : left + VIEW.crop]
                yield from (window, window[:, :, ::-1])


@pytest.mark.parametrize("size", [(200, 1), (1, 200), (1, 1)])
def test_a_photo_may_be_as_thin_as_a_line(size):
    line = Image.fromarray(np.tile(np.arange(size[0], dtype=np.uint8)[None, :, None], (size[1], 1, 3)))
    seen = show_photo(line, VIEW.whole, None)
    assert seen.shape == (3, 10, 10)
    assert (seen == seen[:, :1]).all() or (seen == seen[:, :, :1]).all()


def test_validation_sees_the_whole_photo_in_the_middle_and_as_it_is():
    pixels = np.zeros((6, 10, 3), np.uint8)
    pixels[..., 0] = np.arange(10) * 20
    pixels[..., 1] = np.arange(6)[:, None] * 40
    seen = show_photo(Image.fromarray(pixels), VIEW.whole, None)
    assert np.array_equal(seen[:, 2:8].transpose(1, 2, 0), pixels)
    assert np.array_equal(seen[1, :, 0], [40, 0, 0, 40, 80, 120, 160, 200, 200, 160])
    between = show_photo(
        Image.fromarray(pixels), View((14, 16), 10), None
    )  # without chance the smallest side, its middle
    assert np.array_equal(between, show_photo(Image.fromarray(pixels), View((14, 14), 10), None))


def test_half_of_the_views_are_mirrored_and_all_windows_and_sides_occur():
    pixels = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (16, 16, 3))
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    random = np.random.default_rng(0)
    flipped, firsts = 0, set()
    for _ in range(400):
        row = show_photo(photo, View((16, 16), 10), random)[0, 0].astype(int)
        flipped += row[0] > row[-1]
        firsts.add(row.min() // 10)
    assert 160 < flipped < 240  # four deviations
    assert firsts == set(range(7))
    widths = {len(np.unique(show_photo(photo, View((10, 12), 10), random)[0, 0])) for _ in range(50)}
    assert widths == {10}
    contrasts = {int(show_photo(photo, View((10, 12), 10), random)[0, 0].max()) for _ in range(50)}
    assert len(contrasts) > 2


def test_a_squeezed_copy_comes_back_to_its_aspect():
    ellipse = np.zeros((40, 40, 3), np.uint8)
    ellipse[10:30, 15:25] = 255  # of a photo of 40×80 pixels, in which it is a square
    seen = show_photo(Image.fromarray(ellipse), View((80, 80), 80), None, original_size=(40, 80))[0] > 127
    middle = seen[20:60]
    assert middle.any(1).sum() == 20
    assert middle.any(0).sum() == 20
    assert np.array_equal(seen[:20], middle[:20][::-1])


@given(st.integers(0, 99))
def test_colours_are_changed_in_the_window_that_would_be_seen_without_it(seed):
    photo = Image.fromarray(np.random.default_rng(0).integers(80, 160, (20, 30, 3), np.uint8))
    plain = show_photo(photo, VIEW, np.random.default_rng(seed)).astype(float)
    assert np.array_equal(show_photo(photo, View((12, 16), 10, 0.0), np.random.default_rng(seed)), plain)
    changed = show_photo(photo, View((12, 16), 10, 0.2), np.random.default_rng(seed)).astype(float)
    assert not np.array_equal(changed, plain)
    means = changed.mean((1, 2)) / plain.mean((1, 2))
    assert (means > 0.75).all()
    assert (means < 1.25).all()
    assert np.corrcoef(plain.sum(0).flat, changed.sum(0).flat)[0, 1] > 0.95  # of the same places
    whole = View((12, 16), 10, 0.2).whole
    assert np.array_equal(show_photo(photo, whole, None), show_photo(photo, VIEW.whole, None))


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((1, 1, 1), [[50, 100, 150]]),
        ((1.5, 1, 1), [[75, 150, 225]]),
        ((0, 1, 1), [[0, 0, 0]]),
        ((1, 0, 1), [[91, 91, 91]]),  # the mean of the grey photo
        ((1, 1, 0), [[91, 91, 91]]),  # .299 · 50 + .587 · 100 + .114 · 150
        ((1, 1, 2), [[9, 109, 209]]),
    ],
)
def test_factors_multiply_brightness_contrast_and_saturation(factors, expected):
    photo = Image.fromarray(np.full((2, 2, 3), [50, 100, 150], np.uint8))
    assert np.asarray(jitter(photo, *factors))[0, :1].tolist() == expected


@pytest.mark.parametrize(
    ("resize", "crop"), [((12, 10), 10), ((9, 12), 10), ((10, 5000), 10), ((10, 10), 7), ((-1, 10), -1)]
)
def test_a_view_out_of_range_is_refused(resize, crop):
    with pytest.raises(ValueError, match=r"training\.resize must be two sides from training\.crop"):
        View(resize, crop)
