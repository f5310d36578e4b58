import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grounding.records import Regions
from grounding.scoring import AreaExponents, box_sums, rank_regions, score, segment_sums, unsuppressed

seeds = st.integers(0, 999)
exponents = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def attention_map(seed, height=5, width=7):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


@given(seeds, exponents, st.integers(0, 6), st.integers(1, 7), st.integers(0, 4), st.integers(1, 5))
def test_boxes_score_their_sum_over_a_power_of_their_area(seed, exponent, x1, x2, y1, y2):
    attention = attention_map(seed)
    inside = attention[y1:y2, x1:x2]
    expected = inside.sum() / max(inside.numel(), 1) ** exponent
    (found,) = score(*box_sums(attention, torch.tensor([[x1, y1, x2, y2]]).float()), area_exponent=exponent).float()
    torch.testing.assert_close(found, expected)


@given(seeds, exponents)
def test_edges_between_cells_count_in_part(seed, exponent):
    """As if every cell were four."""
    attention = attention_map(seed)
    fine = attention.repeat_interleave(2, 0).repeat_interleave(2, 1) / 4
    boxes = torch.tensor([[0.5, 1.5, 3.0, 4.5], [2.5, 0.0, 7.0, 5.0]])
    scores = score(*box_sums(attention, boxes), area_exponent=exponent).float()
    torch.testing.assert_close(scores, score(*box_sums(fine, boxes * 2), area_exponent=exponent).float() * 4**exponent)


def test_what_lies_outside_the_photo_does_not_count():
    boxes = torch.tensor(
        [[-5.0, -5.0, 100.0, 100.0], [0.0, 0.0, 7.0, 5.0], [50.0, 50.0, 60.0, 60.0], [3.0, 3.0, 3.0, 3.0]]
    )
    scores = score(*box_sums(attention_map(0), boxes), area_exponent=0.5).float()
    assert scores[0] == scores[1] > 0
    assert scores[2:].tolist() == [0, 0]


@given(seeds, exponents)
def test_segments_score_as_their_pixels_do(seed, exponent):
    attention = attention_map(seed)
    superpixels = torch.randint(0, 6, attention.shape, generator=torch.Generator().manual_seed(seed))
    members = [[0], [1, 3], [], [0, 1, 2, 3, 4, 5]]
    offsets = torch.tensor([0, 1, 3, 3, 9])
    flat = torch.tensor([m for segment in members for m in segment])
    scores = score(*segment_sums(attention, superpixels, offsets, flat), area_exponent=exponent).float()
    for segment, found in zip(members, scores, strict=True):
        mask = torch.isin(superpixels, torch.tensor(segment))
        torch.testing.assert_close(found, attention[mask].sum() / max(int(mask.sum()), 1) ** exponent)


def test_no_region_is_a_number_of_regions():
    assert score(*box_sums(attention_map(0), torch.zeros(0, 4)), area_exponent=0.5).float().shape == (0,)
    empty = torch.zeros(0, dtype=torch.long)
    scores = score(
        *segment_sums(attention_map(0), torch.zeros(5, 7).long(), torch.tensor([0]), empty), area_exponent=1
    ).float()
    assert scores.shape == (0,)
    assert len(unsuppressed(Regions(torch.zeros(0, 4), torch.zeros(0)), overlap=0.7)) == 0


@pytest.mark.parametrize("bad", [torch.nan, -1.0, torch.inf])
def test_a_map_that_is_none_raises(bad):
    attention = attention_map(0)
    attention[2, 2] = bad
    with pytest.raises(ValueError, match="non-negative and without NaN"):
        box_sums(attention, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="non-negative and without NaN"):
        segment_sums(attention, torch.zeros(5, 7), torch.tensor([0]), torch.tensor([]))


def test_boxes_or_scores_that_are_no_numbers_raise():
    with pytest.raises(ValueError, match="boxes hold NaN"):
        box_sums(attention_map(0), torch.full((1, 4), torch.nan))
    with pytest.raises(ValueError, match="score is NaN"):
        unsuppressed(Regions(torch.zeros(1, 4), torch.tensor([torch.nan])), overlap=0.5)
    with pytest.raises(ValueError, match="differ in size"):
        segment_sums(attention_map(0), torch.zeros(2, 2), torch.tensor([0]), torch.tensor([]))
    with pytest.raises(ValueError, match=r"expected boxes \(N, 4\)"):
        Regions(torch.zeros(2, 4), torch.zeros(3))


@given(seeds)
def test_suppression_keeps_the_best_and_does_nothing_twice(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(20, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 1 + torch.rand(20, 2, generator=generator) * 50], 1)
    regions = Regions(boxes, torch.rand(20, generator=generator))
    once = regions[unsuppressed(regions, overlap=0.5)]
    assert once.scores[0] == regions.scores.max()
    assert (once.scores.diff() <= 0).all()
    assert torch.equal(unsuppressed(once, overlap=0.5), torch.arange(len(once)))


def test_equal_scores_keep_their_order():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    assert unsuppressed(Regions(boxes, torch.zeros(3)), overlap=0.7).tolist() == [0, 1]


def random_boxes(seed, count=12, height=5, width=7):
    """Distinct boxes (count, 4) within a photo."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values * torch.tensor([width, height])
    return corners.flatten(1)


@given(seeds, exponents)
def test_permuted_proposals_permute_their_scores(seed, exponent):
    attention, boxes = attention_map(seed), random_boxes(seed)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed + 1))
    scored = score(*box_sums(attention, boxes), area_exponent=exponent)
    assert torch.equal(score(*box_sums(attention, boxes[order]), area_exponent=exponent), scored[order])
    ranked, permuted = (
        rank_regions(attention, Regions(each, torch.zeros(12)), (5, 7), area_exponents=[exponent], overlap=0.7)[0]
        for each in (boxes, boxes[order])
    )
    torch.testing.assert_close(permuted.regions.boxes, ranked.regions.boxes)
    assert torch.equal(order[permuted.indices], ranked.indices)


@given(seeds)
def test_each_exponent_ranks_as_if_it_were_alone(seed):
    attention, proposals = attention_map(seed), Regions(random_boxes(seed), torch.zeros(12))
    together = rank_regions(attention, proposals, (5, 7), area_exponents=[0.0, 0.5, 1.0], overlap=0.5)
    for exponent, ranking in zip((0.0, 0.5, 1.0), together, strict=True):
        (alone,) = rank_regions(attention, proposals, (5, 7), area_exponents=[exponent], overlap=0.5)
        assert torch.equal(alone.indices, ranking.indices)
        assert torch.equal(alone.regions.scores, ranking.regions.scores)
        assert (ranking.regions.scores.diff() <= 0).all()


@pytest.mark.parametrize("attention", [None, torch.zeros(5, 7)])
def test_without_attention_the_order_of_the_proposals_stays(attention):
    proposals = Regions(torch.tensor([[0.0, 0.0, 2.0, 2.0], [3.0, 3.0, 7.0, 5.0]]), torch.tensor([2.0, 1.0]))
    (ranking,) = rank_regions(attention, proposals, (5, 7), area_exponents=[0.5], overlap=0.7)
    assert ranking.indices.tolist() == [0, 1]
    assert ranking.regions.scores.tolist() == [2, 1]
    assert ranking.mass == 0


@pytest.mark.parametrize("value", [-0.1, 11, float("nan"), "many", None, True])
def test_an_area_exponent_is_a_number_from_0_to_10(value):
    with pytest.raises(ValueError, match=r"scoring\.area_exponent must be from 0 to 10"):
        AreaExponents(0.5, value)
