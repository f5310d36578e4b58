"""Attention as one ONNX graph, from a photo and the numbers of output units to their maps; it runs without torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grounding.onnx.export import export_attention

__all__ = ["export_attention"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import; `python -m grounding.onnx --help` does not need it.
    if name == "export_attention":
        from grounding.onnx.export import export_attention

        return export_attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
