"""Attention as one ONNX graph, from a photo and the numbers of output units to their maps; it runs without torch."""

from grounding.onnx.export import export_attention

__all__ = ["export_attention"]
