import io
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.images import decode, find_images, load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(tmp_path, image, name="photo.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_a_photo_is_the_same_in_every_form(tmp_path):
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255
    path = saved(tmp_path, Image.fromarray(PIXELS))
    for source in (path, str(path), Image.fromarray(PIXELS), PIXELS, expected):
        loaded = load_image(source)
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, expected)


def test_grey_palette_and_cmyk_photos_become_rgb(tmp_path):
    grey = np.tile(np.arange(0, 250, 25, dtype=np.uint8), (4, 1))
    expected = torch.from_numpy(grey).expand(3, -1, -1) / 255
    torch.testing.assert_close(load_image(saved(tmp_path, Image.fromarray(grey))), expected)
    torch.testing.assert_close(load_image(grey), expected)
    palette = Image.fromarray(grey).convert("P")
    torch.testing.assert_close(load_image(saved(tmp_path, palette)), expected)
    cmyk = Image.fromarray(np.dstack([grey] * 3)).convert("CMYK")
    torch.testing.assert_close(load_image(saved(tmp_path, cmyk, "photo.tif")), expected, atol=0.02, rtol=0)


def test_sixteen_bits_become_a_fraction_of_their_range(tmp_path):
    grey = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    loaded = load_image(saved(tmp_path, Image.fromarray(grey)))
    torch.testing.assert_close(loaded[0], torch.from_numpy(grey.astype(np.float32) / 65535))


def test_float_photos_are_scaled_by_the_range_of_their_values(tmp_path):
    grey = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    for scale in (1, 255):
        loaded = load_image(saved(tmp_path, Image.fromarray(grey * scale), "photo.tif"))
        torch.testing.assert_close(loaded[0], torch.from_numpy(grey))


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="not a regular file"):
        load_image(tmp_path / "photo.jpg")


def test_transparent_photos_are_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert load_image(saved(tmp_path, image)).min() == 1
    assert load_image(saved(tmp_path, Image.new("LA", (2, 2), (0, 255)))).max() == 0


def test_the_rotation_in_exif_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = saved(tmp_path, Image.new("RGB", (8, 4)), "photo.jpg", exif=exif)
    assert load_image(path).shape == (3, 8, 4)


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "photo.gif", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(load_image(path)[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]), atol=0.01, rtol=0)


def test_a_photo_of_one_pixel_is_read(tmp_path):
    assert load_image(saved(tmp_path, Image.new("RGB", (1, 1)))).shape == (3, 1, 1)


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"no photo at all", "not an image"), (jpeg()[:600], "cannot be read")],
)
def test_the_error_of_a_broken_file_names_it_and_its_fault(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"photo\.jpg: {message}"):
        load_image(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too large"):
        load_image(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", r"nowhere\.jpg: no such file"),
        (".", "a folder"),
        ("https://example.org/dog.jpg", "a URL, not a path"),
        ("", "the path of the image is empty"),
        ("x" * 300, "File name too long"),
        (Image.new("RGB", (0, 0)), "nothing to show"),
        (42, "got int"),
        (PIXELS.astype(float), "of float64"),
        (PIXELS[..., :2], r"got \(6, 9, 2\)"),
        (PIXELS[:0], "nothing to show"),
        (torch.zeros(3, 4), "got \\(3, 4\\)"),
        (torch.zeros(3, 0, 4), "got \\(3, 0, 4\\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((3, 4, 4), 255.0), "from 255 to 255"),
        (torch.full((3, 4, 4), torch.nan), "from nan"),
    ],
)
def test_other_input_than_photos_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        load_image(source)


def test_photos_are_found_by_path_folder_and_glob(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "odd [1].jpg"):
        (tmp_path / name).touch()
    folder = str(tmp_path)
    names = lambda patterns: [path.name for path in find_images(patterns)]  # noqa: E731
    assert names([folder]) == ["a.PNG", "b.jpg", "odd [1].jpg"]
    assert names([f"{folder}/*.jpg"]) == ["b.jpg", "odd [1].jpg"]
    assert names([f"{folder}/odd [1].jpg", f"{folder}/b.jpg", folder]) == ["odd [1].jpg", "b.jpg", "a.PNG"]


def test_a_search_that_finds_nothing_says_so(tmp_path):
    for pattern, message in (
        (str(tmp_path), "holds no photo"),
        (f"{tmp_path}/*.jpg", "no file matches"),
        ("x.jpg", "no such"),
    ):
        with pytest.raises(ValueError, match=message):
            find_images([pattern])


def encoded(image, form="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def smooth(height, width):
    """A photo of slow waves, which is nearly the same at any scale."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 3 * y), np.cos(7 * y), np.sin(9 * x * y)]
    return Image.fromarray((np.dstack(waves) * 100 + 128).astype(np.uint8))


def quarter_turn():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    return exif


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.sampled_from(["JPEG", "MPO"]))
def test_a_jpeg_is_decoded_at_the_smallest_size_that_suffices(height, width, longer_side, form):
    image = decode(encoded(smooth(height, width), form), name="a.jpg", longer_side=longer_side)
    largest = min(max(height, width) // longer_side, height, width)  # times smaller; a line stays a line
    scale = max([1, *(scale for scale in (2, 4, 8) if scale <= largest)])
    assert image.size == (-(-width // scale), -(-height // scale))
    assert max(image.size) >= min(longer_side, max(height, width))


def test_a_jpeg_decoded_small_is_nearly_the_same_picture():
    content = encoded(smooth(240, 320), quality=95)
    assert decode(content, name="a.jpg").size == (320, 240)
    for longer_side, size in ((160, (160, 120)), (80, (80, 60)), (79, (80, 60)), (81, (160, 120)), (40, (40, 30))):
        small = decode(content, name="a.jpg", longer_side=longer_side)
        assert small.size == size
        expected = np.asarray(smooth(240, 320).resize(size, Image.Resampling.BOX), int)
        assert np.abs(np.asarray(small, int) - expected).mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_rotation_in_exif_is_applied_to_a_jpeg_at_any_size(mode):
    photo = smooth(240, 320)
    content = encoded(photo.convert(mode), exif=quarter_turn(), quality=95)
    expected = photo.convert("L").convert("RGB") if mode == "L" else photo
    for longer_side, size in ((None, (240, 320)), (80, (60, 80))):
        image = decode(content, name="a.jpg", longer_side=longer_side)
        assert image.mode == "RGB"
        assert image.size == size
        upright = expected.transpose(Image.Transpose.ROTATE_270).resize(size, Image.Resampling.BOX)
        assert np.abs(np.asarray(image, int) - np.asarray(upright, int)).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_decode_and_load_image_agree(tmp_path, mode):
    grey = np.linspace(0, 65535, 48).reshape(6, 8)
    if mode in ("I;16", "F"):
        photo = Image.fromarray(grey.astype(np.uint16) if mode == "I;16" else (grey / 65535).astype(np.float32))
    else:
        photo = smooth(6, 8).convert(mode)
    if mode in ("LA", "RGBA"):
        photo.putalpha(Image.fromarray((grey / 257).astype(np.uint8)))
    content = encoded(photo, "TIFF")
    (tmp_path / "a.tif").write_bytes(content)
    image = decode(content, name="a.tif", longer_side=4)
    assert image.mode == "RGB"
    loaded = load_image(tmp_path / "a.tif").permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(np.asarray(image), loaded, atol=0.51)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no photo at all", "not an image"),
        (jpeg()[:600], "cannot be read"),
        (encoded(Image.fromarray(PIXELS), "PNG")[:60], "cannot be read"),
        (encoded(Image.fromarray(PIXELS[..., 0]), "PNG")[:70], "cannot be read"),
        # Pillow raises other errors than OSError for this
        (encoded(Image.fromarray(PIXELS), "DDS")[:80] + bytes(200), "cannot be read"),
    ],
)
@pytest.mark.parametrize("longer_side", [None, 8])
def test_the_error_of_broken_content_names_the_photo_and_its_fault(content, message, longer_side):
    with pytest.raises(ValueError, match=rf"^x/photo\.jpg: {message}[^\n]*$"):
        decode(content, name="x/photo.jpg", longer_side=longer_side)


@given(st.data())
def test_a_damaged_photo_is_decoded_or_raises_an_error_that_names_it(data):
    form = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
    content = bytearray(encoded(Image.fromarray(PIXELS), form, **({"exif": quarter_turn()} if form == "JPEG" else {})))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=4)):
        content[place % len(content)] = value
    try:
        image = decode(bytes(content), name="photo", longer_side=4)
    except ValueError as error:
        assert str(error).startswith("photo: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert image.mode == "RGB"


def test_content_of_a_decompression_bomb_is_refused(monkeypatch):
    content = encoded(Image.new("RGB", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.jpg: too large"):
        decode(content, name="a.jpg", longer_side=8)
