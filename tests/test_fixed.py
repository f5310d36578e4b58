import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grounding.attention import Centre, ProposalOrder
from grounding.scoring import enlarge

sides = st.integers(1, 60)
network = nn.Identity()


@given(sides, sides)
def test_the_centre_is_the_one_maximum(height, width):
    ((attention,),) = Centre(network, "")(torch.zeros(1, 3, height, width), [torch.tensor([7])])
    assert attention.shape == (height, width)
    assert (attention > 0).all()
    assert (attention == attention.max()).sum() == 1
    assert divmod(int(attention.argmax()), width) == (height // 2, width // 2)


@given(sides, sides, st.integers(2, 4))
def test_the_centre_stays_in_the_middle_of_an_enlarged_map(height, width, times):
    ((attention,),) = Centre(network, "")(torch.zeros(1, 3, height, width), [torch.tensor([0])])
    row, column = divmod(int(enlarge(attention, (times * height, times * width)).argmax()), times * width)
    assert abs((row + 0.5) / times - height / 2) <= 1
    assert abs((column + 0.5) / times - width / 2) <= 1


def test_the_centre_falls_off_by_a_quarter_of_each_side():
    ((attention,),) = Centre(network, "")(torch.zeros(1, 3, 40, 80), [torch.tensor([0])])
    edge = torch.exp(torch.tensor(-0.5))
    torch.testing.assert_close(torch.stack([attention[30, 40], attention[20, 60]]), edge.repeat(2))


@pytest.mark.parametrize("method", [Centre, ProposalOrder])
def test_photo_and_words_make_no_difference(method):
    attend = method(network, "")
    targets = [torch.tensor([1, 2]), torch.tensor([], dtype=torch.long), torch.rand(3, 9)]
    maps = attend(torch.rand(3, 3, 6, 8), targets)
    assert [len(attention) for attention in maps] == [2, 0, 3]
    for attention in (*maps[0], *maps[2]):
        assert torch.equal(attention, attend(torch.zeros(1, 3, 6, 8), [torch.tensor([0])])[0][0])


def test_the_order_of_proposals_is_no_attention():
    (maps,) = ProposalOrder(network, "")(torch.rand(1, 3, 6, 8), [torch.tensor([4])])
    assert maps.shape == (1, 6, 8)
    assert not maps.any()


def test_no_attention_leaves_proposals_in_their_order():
    from grounding import Grounder
    from grounding.maps import WordAttention
    from grounding.models import Classifier
    from grounding.records import Regions
    from grounding.scoring import AreaExponents, Scoring
    from grounding.vocabulary import read_vocabulary

    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [40.0, 40.0, 60.0, 60.0], [0.0, 40.0, 30.0, 60.0]])
    classifier = Classifier(network, read_vocabulary("imagenet"), "", None, (0, 0, 0), (1, 1, 1), short_side=32)
    grounder = Grounder(
        WordAttention(classifier, ProposalOrder, device="cpu"),
        lambda image: Regions(boxes, torch.tensor([3.0, 2.0, 1.0])),
        Scoring(AreaExponents(0.25, 0.25)),
    )
    (grounding,) = grounder([torch.rand(3, 64, 64)], phrases=[["cat"]])
    assert grounding.phrases[0].words
    assert torch.equal(grounding.phrases[0].regions.boxes, boxes)
