"""The example photos, which the commands use when no photo is named."""

from pathlib import Path


def example_photos() -> dict[Path, str]:
    """The paths of four photos in scikit-image's package, each with a caption of ours.

    >>> [path.name for path in example_photos()]
    ['astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg']
    """
    from skimage.data import data_dir

    captions = {
        "astronaut.png": "A woman beside a space shuttle",
        "chelsea.png": "A tabby cat",
        "coffee.png": "A cup on a wooden table",
        "rocket.jpg": "A white rocket",
    }
    return {Path(data_dir) / name: caption for name, caption in captions.items()}
