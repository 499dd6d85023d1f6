import pytest
import torch
from torch.nn.functional import conv2d

from prevmatch.models.deeplab import AtrousConv2d


@pytest.mark.parametrize(("size", "dilation"), [((7, 9), 9), ((5, 5), 18), ((9, 9), 8), ((7, 9), 8), ((1, 1), 1)])
def test_atrous_convolution_equals_the_plain_one_in_values_and_gradients(size, dilation):
    torch.manual_seed(0)
    layer = AtrousConv2d(4, 6, 3, padding=dilation, dilation=dilation)
    feature = torch.randn(2, 4, *size, requires_grad=True)
    answer = layer(feature)
    expected = conv2d(feature, layer.weight, layer.bias, padding=dilation, dilation=dilation)
    torch.testing.assert_close(answer, expected)
    given = torch.randn_like(answer)
    inputs = (feature, layer.weight, layer.bias)
    for ours, plain in zip(
        torch.autograd.grad(answer, inputs, given), torch.autograd.grad(expected, inputs, given), strict=True
    ):
        torch.testing.assert_close(ours, plain)


def test_taps_that_see_only_padding_are_not_computed():
    layer = AtrousConv2d(2, 2, 3, padding=6, dilation=6)
    with torch.no_grad():
        layer.weight[:, :, 0] = torch.nan
        assert layer(torch.randn(1, 2, 6, 6)).isfinite().all()
        assert not layer(torch.randn(1, 2, 7, 6)).isfinite().all()
