"""The example photos, which the commands use where none is named."""

from pathlib import Path


def example_photos() -> dict[Path, str]:
    """The four photos of scikit-image's wheel that the commands use by default, each with a caption of ours."""
    from skimage.data import data_dir

    captions = {
        "astronaut.png": "A woman beside a space shuttle",
        "chelsea.png": "A tabby cat",
        "coffee.png": "A cup of coffee on a wooden table",
        "rocket.jpg": "A rocket beside a tower at night",
    }
    return {Path(data_dir) / name: caption for name, caption in captions.items()}
