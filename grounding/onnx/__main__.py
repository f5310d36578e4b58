"""``python -m grounding.onnx``: write a classifier with its attention to an ONNX file."""

import logging
from pathlib import Path
from typing import Any

import hydra

from grounding.command_line import attempt, run_command
from grounding.config import CONFIG_DIR, OnnxSettings, attention_settings, build_part, plain_settings
from grounding.files import write_file
from grounding.messages import printable

log = logging.getLogger("grounding.onnx")


def main() -> None:
    """The command line."""
    run_command(run, "onnx_settings", OnnxSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="onnx", version_base="1.3")
def run(settings: Any) -> None:
    """Export the classifier that the settings name; an error is logged, and a sweep continues."""
    attempt(lambda: export(settings), log, if_interrupted="nothing was written")


def export(settings: Any) -> bool:
    """Write the ONNX file that the settings ask for; returns True.

    Raises:
        ValueError: a setting is wrong, or the attention cannot be exported.
        OSError: the file cannot be written.
    """
    path = Path(settings.output).expanduser()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"output={printable(path)} must be a file in a folder that exists")
    used = {"model": plain_settings("model", settings.model), "attention": attention_settings(settings.attention)}

    from grounding.onnx.export import check_size, export_attention

    if settings.size is not None:
        check_size(settings.size)
    classifier = build_part(used["model"])
    height, width = settings.size or (classifier.short_side, classifier.short_side)
    content = export_attention(classifier, build_part(used["attention"]), size=(height, width), settings=used)
    write_file(path, content)
    log.info("%s: %.1f MB, for photos of %d×%d pixels", printable(path), len(content) / 1e6, height, width)
    return True


if __name__ == "__main__":
    main()
