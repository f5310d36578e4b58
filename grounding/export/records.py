"""Records of a format, made photo by photo: collected in lists here, and written to files as they come elsewhere."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

from grounding.export.photos import Photo

Record: TypeAlias = tuple[str, Any]  # the stream that a record belongs to, such as "images", and its values for JSON


class Export(Protocol):
    """Turns one photo after the other into the records of a format."""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams of records."""

    def __call__(self, photo: Photo) -> Iterator[Record]:
        """Yield the records of a photo that was grounded."""


def collect(export: Export, photos: Iterable[Photo]) -> dict[str, list[Any]]:
    """The records of all photos that were grounded, by stream."""
    found: dict[str, list[Any]] = {stream: [] for stream in export.streams}
    for photo in photos:
        if photo.error is None:
            for stream, record in export(photo):
                found[stream].append(record)
    return found
