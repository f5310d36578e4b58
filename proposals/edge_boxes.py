"""EdgeBoxes (Zitnick and Dollár 2014): boxes that wholly contain contours, by OpenCV."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from grounding.images import ImageSource, load_image
from grounding.limits import check_limits
from grounding.records import Regions
from proposals.edges import EdgeDetector, gradient_edges, shrink, thin

SMALLEST = 16  # pixels; a photo with a shorter side has no room for boxes


class EdgeBoxes:
    """Proposes boxes of a photo, ranked by the contours that they contain; with the authors' settings.

    Threads may share one: a call changes nothing in it.

    Args:
        count: number of boxes at most.
        step: α, the IoU of neighbouring boxes in the search.
        overlap: β, the IoU above which a box is suppressed by a better one.
        least_score: least score of a box.
        least_area: least area of a box, in pixels of the photo as it is searched.
        widest: greatest ratio of a box's longer side to its shorter one.
        longest_side: larger photos are first scaled down to this, in pixels.
        edges: ``learned`` by the edge network, or the colour's ``gradient``.
        scales: scales of the photo at which learned edges are detected.
        weights: weights of the edge network; the package's own by default.
        device: where the edge network runs; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: a setting is out of its range, the weights cannot be read, or the device cannot be used.

    >>> photo = np.full((100, 150, 3), 40, np.uint8)
    >>> photo[30:70, 40:110] = (200, 60, 60)
    >>> regions = EdgeBoxes(count=10, edges="gradient")(photo)
    >>> [round(edge, -1) for edge in regions.boxes[0].tolist()]
    [40.0, 30.0, 110.0, 70.0]
    """

    def __init__(
        self,
        *,
        count: int = 500,
        step: float = 0.65,
        overlap: float = 0.75,
        least_score: float = 0.01,
        least_area: float = 1000.0,
        widest: float = 3.0,
        longest_side: int = 500,
        edges: str = "learned",
        scales: Sequence[float] = (0.5, 1.0),
        weights: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        check_limits(
            "EdgeBoxes",
            count=(count, 1, 100_000),
            step=(step, 0.1, 0.95),  # finer, and the search takes minutes
            overlap=(overlap, 0, 1),
            least_score=(least_score, 0, 1e6),
            least_area=(least_area, 1, 1e9),
            widest=(widest, 1, 100),
            longest_side=(longest_side, SMALLEST, 100_000),
        )
        if edges not in ("learned", "gradient"):
            raise ValueError(f"EdgeBoxes: edges must be learned or gradient, got {edges!r}")
        self.detect = gradient_edges if edges == "gradient" else EdgeDetector(weights, scales=scales, device=device)
        # The search was made for edges of structured forests, most of which are weak, as learned ones are when squared.
        self.power = 1 if edges == "gradient" else 2
        self.count = int(count)
        self.step = step
        self.overlap = overlap
        self.least_score = least_score
        self.least_area = least_area
        self.widest = widest
        self.longest_side = longest_side

    def __call__(self, image: ImageSource) -> Regions:
        """Boxes (N, 4) in pixels of the photo and their scores (N,), best first; none in a photo without edges.

        Raises:
            ValueError: the image cannot be read (see `grounding.images.load_image`).
        """
        loaded = load_image(image)
        height, width = loaded.shape[-2:]
        pixels = shrink(loaded, self.longest_side)
        del loaded  # frees memory
        rows, columns = pixels.shape[:2]
        if min(rows, columns) < SMALLEST:
            return Regions(torch.zeros(0, 4), torch.zeros(0))
        edges = self.detect(pixels)
        search = cv2.ximgproc.createEdgeBoxes(  # a new one for each photo: the last photo would change its results
            alpha=self.step,
            beta=self.overlap,
            minScore=self.least_score,
            minBoxArea=self.least_area,
            maxAspectRatio=self.widest,
            maxBoxes=self.count,
        )
        found, scores = search.getBoundingBoxes(thin(edges) ** self.power, edges.orientation)
        if len(found) == 0:
            return Regions(torch.zeros(0, 4), torch.zeros(0))
        boxes = np.asarray(found, dtype=np.float32)  # x, y, width, height
        boxes[:, 2:] += boxes[:, :2]
        boxes *= np.array([width / columns, height / rows] * 2, np.float32)
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        ranked = Regions(torch.from_numpy(boxes), torch.from_numpy(np.asarray(scores, dtype=np.float32).ravel()))
        return ranked[ranked.scores.argsort(descending=True, stable=True)]
