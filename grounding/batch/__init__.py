"""Archives of captioned photos: rows in, rows out, on one machine."""

from grounding.batch.rows import ground_batch

__all__ = ["ground_batch"]
