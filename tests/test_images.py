import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from grounding.images import find_images, load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(tmp_path, image, name="photo.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_every_form_of_a_photo_is_the_same_photo(tmp_path):
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


def test_sixteen_bits_keep_their_contrast(tmp_path):
    grey = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    loaded = load_image(saved(tmp_path, Image.fromarray(grey)))
    torch.testing.assert_close(loaded[0], torch.from_numpy(grey.astype(np.float32) / 65535))


def test_float_photos_are_read_in_their_own_range(tmp_path):
    grey = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    for scale in (1, 255):
        loaded = load_image(saved(tmp_path, Image.fromarray(grey * scale), "photo.tif"))
        torch.testing.assert_close(loaded[0], torch.from_numpy(grey))


def test_a_pipe_is_no_photo(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="not a regular file"):
        load_image(tmp_path / "photo.jpg")


def test_transparency_lies_on_white(tmp_path):
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert load_image(saved(tmp_path, image)).min() == 1
    assert load_image(saved(tmp_path, Image.new("LA", (2, 2), (0, 255)))).max() == 0


def test_rotated_photos_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = saved(tmp_path, Image.new("RGB", (8, 4)), "photo.jpg", exif=exif)
    assert load_image(path).shape == (3, 8, 4)


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "photo.gif", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(load_image(path)[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]), atol=0.01, rtol=0)


def test_one_pixel_is_a_photo(tmp_path):
    assert load_image(saved(tmp_path, Image.new("RGB", (1, 1)))).shape == (3, 1, 1)


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"no photo at all", "not an image"), (jpeg()[:600], "cannot be read")],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path, content, message):
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
def test_what_is_no_photo_is_refused(source, message):
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
