"""Published proposals, read from the files in which their authors released them."""

from proposals.published.lookup import Published

__all__ = ["Published"]
