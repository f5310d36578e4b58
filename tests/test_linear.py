import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grounding.attention.linear import Average, Convolution, Identity, add, compose


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 2, 4]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
    torch.manual_seed(draw(st.integers(0, 999)))
    return Convolution(
        torch.randn(4, 4 // groups, *kernel, dtype=torch.float64),
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        padding=draw(st.sampled_from([None, (0, 0), (1, 1), (1, 0)])),
        dilation=(draw(st.integers(1, 2)), 1),
        groups=groups,
    )


def neurons(*shape):
    torch.manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64)


@given(convolutions())
def test_the_transpose_is_the_transpose(convolution):
    """⟨W x, y⟩ = ⟨x, Wᵀ y⟩."""
    x = neurons(2, 4, 7, 8)
    out = convolution.apply(x)
    y = neurons(*out.shape)
    torch.testing.assert_close((out * y).sum(), (x * convolution.transpose(y, x.shape)).sum())


@pytest.mark.parametrize("count", [1, 20])
def test_maps_of_single_cells_are_products_of_matrices_in_single_precision(count):
    convolution, x, y = Convolution(torch.rand(3, 4, 1, 1)), torch.rand(count, 4, 7, 8), torch.rand(count, 3, 7, 8)
    weight = convolution.weight[:, :, 0, 0]
    torch.testing.assert_close(convolution.apply(x), torch.einsum("oi,nihw->nohw", weight, x))
    torch.testing.assert_close(convolution.transpose(y, x.shape), torch.einsum("oi,nohw->nihw", weight, y))


@given(convolutions())
def test_contributions_of_all_positions_add_up_to_the_output(convolution):
    x = neurons(2, 4, 7, 8)
    torch.testing.assert_close(convolution.contributions(x).sum(0), convolution.apply(x))


@given(convolutions())
def test_collecting_contributions_equals_the_channel_sum(convolution):
    x = neurons(1, 4, 7, 8)
    y = neurons(3, *convolution.apply(x).shape[1:])
    collected = convolution.collect(y, convolution.contributions(x)[:, 0], x.shape)
    torch.testing.assert_close(collected, (x * convolution.transpose(y, x.shape)).sum(1))


@given(convolutions(), st.booleans())
def test_composition_is_one_after_the_other(convolution, is_first):
    x = neurons(2, 4, 7, 8)
    pointwise = Convolution(neurons(4, 4, 1, 1))
    first, second = (pointwise, convolution) if is_first else (convolution, pointwise)
    torch.testing.assert_close(compose(second, first, at="here").apply(x), second.apply(first.apply(x)))


def test_composition_with_a_strided_pointwise_map():
    x = neurons(1, 4, 7, 8)
    first, second = Convolution(neurons(4, 4, 3, 3), padding=(1, 1)), Convolution(neurons(4, 4, 1, 1), stride=(2, 2))
    torch.testing.assert_close(compose(second, first, at="here").apply(x), second.apply(first.apply(x)))


def test_sums_are_added_weight_by_weight():
    x = neurons(1, 4, 7, 8)
    field = Convolution(neurons(4, 4, 3, 3), padding=(1, 1))
    wide = Convolution(neurons(4, 2, 3, 3), padding=(2, 2), dilation=(2, 2), groups=2)
    pointwise = Convolution(neurons(4, 4, 1, 1))
    for first, second in ((field, Identity()), (Identity(), field), (pointwise, field), (wide, pointwise)):
        torch.testing.assert_close(add(first, second).apply(x), first.apply(x) + second.apply(x))
    torch.testing.assert_close(add(Identity(), Identity()).apply(x), 2 * x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: compose(Convolution(neurons(4, 4, 3, 3)), Convolution(neurons(4, 4, 3, 3)), at="here"),
        lambda: compose(Convolution(neurons(4, 4, 1, 1)), Average(torch.nn.AvgPool2d(2)), at="here"),
        lambda: compose(
            Convolution(neurons(4, 4, 1, 1), stride=(2, 2)), Convolution(neurons(4, 4, 3, 3), padding=None), at=""
        ),
        lambda: add(Convolution(neurons(4, 4, 3, 3)), Convolution(neurons(4, 4, 1, 1), stride=(2, 2))),
        lambda: add(Convolution(neurons(4, 4, 3, 3), padding=None), Identity()),
        lambda: add(Average(torch.nn.AvgPool2d(1)), Identity()),
    ],
)
def test_maps_that_do_not_fit_are_refused_with_another_treatment(make):
    with pytest.raises(ValueError, match="choose signed=clamp"):
        make()


@given(
    st.sampled_from(
        [torch.nn.AvgPool2d(2), torch.nn.AvgPool2d(3, 2, 1, ceil_mode=True), torch.nn.AdaptiveAvgPool2d((2, 3))]
    )
)
def test_averages_transpose_too(pool):
    average, x = Average(pool), neurons(2, 3, 5, 6)
    y = neurons(*average.apply(x).shape)
    torch.testing.assert_close((average.apply(x) * y).sum(), (x * average.transpose(y, x.shape)).sum())
