import numpy as np
import torch

from grounding.records import Regions, Segments
from proposals.draw import draw_regions


def test_a_picture_shows_outlines_where_there_are_some():
    image = torch.ones(3, 40, 60)
    boxes = torch.tensor([[0.0, 0, 60, 20], [10, 5, 50, 35]])
    regions = Regions(boxes, torch.tensor([2.0, 1]))
    superpixels = torch.tensor([[0, 1], [2, 3]])  # of a smaller copy
    segments = Segments(boxes, torch.tensor([2.0, 1]), superpixels, (torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])))
    boxes_picture, segments_picture = (np.asarray(draw_regions(image, each, count=5)) for each in (regions, segments))
    assert boxes_picture.shape == segments_picture.shape
    assert (boxes_picture != segments_picture).any()


def test_odd_photos_and_no_regions_still_make_a_picture():
    none = Regions(torch.zeros(0, 4), torch.zeros(0))
    assert draw_regions(torch.zeros(3, 1, 1), none).width == 960
    assert draw_regions(torch.zeros(3, 2, 3000), none, contours=np.zeros((5, 6001))).width == 960
