"""Converted for several GPUs, every family of encoders answers as before; compared in eval mode, on the CPU."""

import pytest
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from prevmatch.config import SegmenterConfig
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter, enlarge

FAMILIES = (
    "test_resnet", "xception65.published", "mobilenetv2_100", "convnext_atto", "resnetv2_50", "repvgg_a0",
    *(pytest.param(name, marks=pytest.mark.variation) for name in ("resnet50s", "tf_efficientnet_lite0")),
)  # fmt: skip


@pytest.mark.parametrize("encoder", FAMILIES)
def test_synchronised_network_answers_as_the_plain_one(encoder):
    torch.manual_seed(0)
    plain = Segmenter(SegmenterConfig(encoder=encoder, num_classes=3, decoder_channels=8, low_level_channels=4)).eval()
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    images = torch.randn(1, 3, 65, 65)
    names, constants = list(plain.state_dict()), [(norm.eps, norm.momentum) for norm in norms]
    with torch.no_grad():
        expected = plain(images)
        network = convert_sync_batchnorm(plain).eval()
        assert torch.equal(network(images), expected)
    converted = [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert [(norm.eps, norm.momentum) for norm in converted] == constants
    assert list(network.state_dict()) == names
    frozen = enlarge(Frozen(network).answer(network, images), images)
    torch.testing.assert_close(frozen, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
