import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from train.loss import multi_hot, tag_loss


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 9))
def test_the_loss_is_the_cross_entropy_of_every_tag_present_or_absent(seed, photos, units):
    random = torch.Generator().manual_seed(seed)
    responses = torch.randn(photos, units, generator=random, dtype=torch.float64) * 5
    truth = torch.rand(photos, units, generator=random) < 0.4
    weights = torch.rand(photos, generator=random, dtype=torch.float64)
    lists = torch.full((photos, units + 1), -1)
    for row, present in zip(lists, truth, strict=True):
        found = present.nonzero().flatten()
        row[: len(found)] = found
    assert torch.equal(multi_hot(lists, units), truth)
    costs = binary_cross_entropy_with_logits(responses, truth.double(), reduction="none")
    torch.testing.assert_close(tag_loss(responses, lists, weights), costs.sum(1) * weights)
    known = truth | (torch.rand(photos, units, generator=random) < 0.5)
    torch.testing.assert_close(tag_loss(responses, lists, weights, known), (costs * known).sum(1) * weights)
    only_absent = known & ~truth  # a present tag counts in any case
    torch.testing.assert_close(tag_loss(responses, lists, weights, only_absent), (costs * known).sum(1) * weights)
