import dataclasses
from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from prevmatch.config import SegmenterConfig
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.convolutions import QuickConv2d, quicken
from prevmatch.students import build_network


def layer(channels, outputs, kernel, **options):
    torch.manual_seed(0)
    return nn.Conv2d(channels, outputs, kernel, bias=False, **options)


def quick(plain):
    network = nn.Sequential(layer(plain.in_channels, plain.out_channels, plain.kernel_size, **settings(plain)))
    network.load_state_dict({"0.weight": plain.weight})
    quicken(network)
    assert type(network[0]) is QuickConv2d
    return network[0]


def quick_ones(network):
    return [module for module in network.modules() if isinstance(module, QuickConv2d)]


def settings(conv):
    return {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}


CASES = {
    "most taps see the map": (layer(4, 6, 3, padding=2, dilation=2), (9, 11)),
    "few taps see the map": (layer(4, 6, 3, padding=6, dilation=6), (7, 9)),
    "some rows of taps see nothing": (layer(4, 6, 3, padding=6, dilation=6), (5, 20)),
    "only the centre sees the map": (layer(4, 6, 3, padding=18, dilation=18), (5, 5)),
    "a large kernel": (layer(4, 6, 5, padding=4, dilation=2), (5, 6)),
    "depthwise": (layer(4, 4, 3, padding=2, dilation=2, groups=4), (9, 10)),
    "depthwise, not square": (layer(4, 4, (3, 5), padding=(3, 4), dilation=(3, 2), groups=4), (7, 11)),
    "depthwise, dilation beyond the map": (layer(4, 4, 3, padding=6, dilation=6, groups=4), (3, 5)),
    "depthwise, strided": (layer(4, 4, 3, padding=1, stride=2, groups=4), (9, 10)),
}


def answer_and_gradients(conv, images, given, dtype):
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        answer = conv(images)
    return answer, *torch.autograd.grad(answer, (images, conv.weight), given.to(answer.dtype))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("plain", "size"), CASES.values(), ids=CASES)
def test_answers_and_gradients_are_those_of_the_plain_convolution(plain, size, memory_format):
    quick_one, plain = quick(plain).double(), deepcopy(plain).double()
    images = torch.randn(2, 4, *size, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    given = torch.randn_like(plain(images))
    found = answer_and_gradients(quick_one, images, given, torch.float64)
    for ours, expected in zip(found, answer_and_gradients(plain, images, given, torch.float64), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("plain", "size"), CASES.values(), ids=CASES)
def test_in_bf16_gradients_are_at_least_as_exact_as_the_plain_convolutions(plain, size):
    images = torch.randn(2, 4, *size, requires_grad=True)
    given = torch.randn_like(plain(images))
    exact = answer_and_gradients(plain, images, given, torch.float32)
    plain_ones = answer_and_gradients(plain, images, given, torch.bfloat16)
    for ours, other, expected in zip(
        answer_and_gradients(quick(plain), images, given, torch.bfloat16), plain_ones, exact, strict=True
    ):
        assert ours.dtype == other.dtype
        assert (ours - expected).norm() <= 1.1 * (other - expected).norm()
        assert (ours - expected).norm() > 0


def test_the_library_is_asked_only_for_what_it_does_well(monkeypatch):
    asked = []
    native = torch.ops.aten.convolution_backward

    def watched(gradient, images, weight, *rest):
        asked.append((weight.dtype, tuple(rest[3]), rest[-1][:2]))  # dtype, dilation, which gradients
        return native(gradient, images, weight, *rest)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", watched)
    for case in ("few taps see the map", "depthwise", "most taps see the map"):
        conv = quick(CASES[case][0])
        conv(torch.randn(1, 4, 9, 9, requires_grad=True)).sum().backward()
    full = torch.float32
    assert asked == [(full, (6, 6), [True, False]), (full, (1, 1), [True, True]), (full, (2, 2), [True, True])]


def test_strided_convolutions_are_the_librarys_in_float32():
    conv, images = quick(CASES["depthwise, strided"][0]), torch.randn(1, 4, 9, 9)
    assert "_Convolution" not in type(conv(images).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert "_Convolution" in type(conv(images).grad_fn).__name__


def test_a_networks_slow_convolutions_are_found_and_its_tensors_keep_their_names():
    network = Segmenter(SegmenterConfig(encoder="mobilenetv2_100", num_classes=3))
    quicken(network)
    assert sum(m.groups > 1 for m in quick_ones(network)) == 6  # three strided, three dilated
    assert sum(m.groups == 1 for m in quick_ones(network)) == 3
    assert network.encoder.conv_stem.__class__ is nn.Conv2d
    assert "decoder.aspp.branches.1.0.weight" in network.state_dict()


def test_frozen_weights_get_no_gradient():
    conv = quick(CASES["depthwise"][0])
    conv.weight.requires_grad_(False)
    images = torch.randn(1, 4, 9, 9, requires_grad=True)
    conv(images).sum().backward()
    assert images.grad is not None
    assert conv.weight.grad is None


def test_a_bias_that_came_later_counts():
    conv = quick(CASES["depthwise"][0])
    conv.bias = nn.Parameter(torch.ones(4))
    images = torch.zeros(1, 4, 9, 9)
    assert torch.equal(conv(images), torch.ones(1, 4, 9, 9))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 3, "padding": "valid", "stride": 2, "groups": 4},
        {"kernel": 2, "padding": 2, "dilation": 2, "groups": 4},
        {"kernel": 3, "padding": 1, "dilation": 2},
    ],
    ids=["padding by name", "even kernel", "a size that changes"],
)
def test_convolutions_that_our_gradients_do_not_cover_stay_plain(options):
    network = nn.Sequential(layer(4, 4, **options))
    quicken(network)
    assert type(network[0]) is nn.Conv2d


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_network_that_trains_on_a_cpu_is_quick(tiny_config, tiny_data, tmp_path, device):
    config = dataclasses.replace(tiny_config, encoder="mobilenetv2_100")
    accelerator = SimpleNamespace(
        device=torch.device(device), num_processes=1, local_main_process_first=lambda: nullcontext()
    )
    student = build_network(config, tiny_data, accelerator)
    assert bool(quick_ones(student)) == (device == "cpu")
    student.save_pretrained(tmp_path / "model")
    assert not quick_ones(Segmenter.from_pretrained(tmp_path / "model"))
    assert not quick_ones(Segmenter(student.config))
