import pytest
import torch
from torch import nn

from prevmatch.config import SegmenterConfig
from prevmatch.models.frozen import Frozen, build_skeleton, fold, foldings_of, frozen_logits, tensors_of
from prevmatch.models.segmenter import Segmenter, enlarge


def segmenter(encoder="test_resnet"):
    """A network whose BatchNorm statistics and weights are all different from those of a new one."""
    torch.manual_seed(0)
    network = Segmenter(SegmenterConfig(encoder=encoder, num_classes=3, decoder_channels=8, low_level_channels=4))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("encoder", "left"),
    [
        ("test_resnet", 0), ("xception65.published", 0), ("mobilenetv2_100", 0), ("convnext_atto", 0),
        ("resnetv2_50", 16), ("repvgg_a0", 17),
        *(pytest.param(name, 0, marks=pytest.mark.variation) for name in ("resnet50s", "tf_efficientnet_lite0")),
    ],
)  # fmt: skip
def test_frozen_network_answers_as_the_network_and_has_no_batch_norm_that_follows_a_convolution(encoder, left):
    network = segmenter(encoder)
    frozen = Frozen(network)
    # In float64, where rounding does not hide what folding does.
    network, images = network.double(), torch.randn(2, 3, 65, 65, dtype=torch.float64)
    tensors = fold(tensors_of(network), frozen.foldings)
    assert tensors.keys() == frozen.tensors_of(network).keys()
    assert not any(name.endswith("num_batches_tracked") for name in tensors) or left
    assert norms(network) - len(frozen.foldings) == norms(frozen.skeleton) == left
    with torch.no_grad():
        expected = network(images)
    answer = enlarge(frozen.logits(tensors, images), images)
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_versions_answer_by_their_own_tensors():
    network, images = segmenter(), torch.randn(1, 3, 32, 32)
    frozen = Frozen(network)
    before = frozen.tensors_of(network)
    first = frozen.logits(before, images)
    nn.init.normal_(network.decoder.classifier.weight)
    second = frozen.logits(frozen.tensors_of(network), images)
    assert not torch.allclose(first, second)
    with torch.no_grad():
        torch.testing.assert_close(second, network(images, enlarged=False), rtol=1e-4, atol=1e-5)


def test_weights_are_kept_in_the_given_precision():
    network, images = segmenter(), torch.randn(1, 3, 64, 64)
    frozen = Frozen(network, torch.bfloat16, context=lambda: torch.autocast("cpu", torch.bfloat16))
    tensors = frozen.tensors_of(network)
    assert {t.dtype for t in tensors.values() if t.ndim > 1 and t.shape[1:] != (1, 1)} == {torch.bfloat16}
    answer, exact = frozen.logits(tensors, images), Frozen(network).logits(Frozen(network).tensors_of(network), images)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, exact, rtol=0.1, atol=0.05 * exact.abs().max().item())
    assert not torch.equal(answer, exact)


class Forked(nn.Module):
    """A convolution's output that goes to a BatchNorm and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        found = self.conv(images)
        return self.norm(found) + found


def test_a_convolution_that_others_read_too_is_noticed(monkeypatch):
    network = segmenter()
    network.decoder.reduce = nn.Sequential(nn.Conv2d(network.decoder.reduce[0].in_channels, 3, 1), Forked())

    def skeleton(config):
        other = segmenter().to("meta")
        other.decoder.reduce = nn.Sequential(nn.Conv2d(network.decoder.reduce[0].in_channels, 3, 1), Forked()).to(
            "meta"
        )
        return other.eval()

    monkeypatch.setattr("prevmatch.models.frozen.build_skeleton", skeleton)
    network.eval()
    frozen, images = Frozen(network), torch.randn(1, 3, 32, 32)
    assert frozen.foldings == []
    with torch.no_grad():
        expected = network(images, enlarged=False)
    torch.testing.assert_close(frozen.logits(frozen.tensors_of(network), images), expected)


def test_a_module_called_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(self.conv(self.norm(self.conv(images))))

    assert foldings_of(Twice().to("meta").eval(), 8) == []


def test_folding_leaves_the_given_tensors_alone():
    network = segmenter()
    tensors = {name: t.clone() for name, t in tensors_of(network).items()}
    fold(tensors, foldings_of(build_skeleton(network.config), 64))
    assert all(torch.equal(t, tensors[name]) for name, t in tensors_of(network).items())


def test_student_is_untouched_by_its_frozen_answers():
    network = segmenter().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    frozen = Frozen(network)
    frozen.logits(frozen.tensors_of(network), torch.randn(2, 3, 32, 32))
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    skeleton = build_skeleton(network.config)
    assert frozen_logits(skeleton, tensors_of(network), torch.randn(1, 3, 33, 35)).shape == (1, 3, 9, 9)
