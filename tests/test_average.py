import pytest
import torch

from prevmatch.average import Average
from prevmatch.config import SegmenterConfig
from prevmatch.models.segmenter import Segmenter

CONFIG = SegmenterConfig(encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4)
NOTHING = torch.zeros(0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Segmenter(CONFIG).train()


def test_decay_rises_to_its_cap_over_parameters_and_buffers(network):
    average, expected = Average(network, 0.6), None
    weight, variance = network.decoder.classifier.weight, network.decoder.reduce[1].running_var
    for step, decay in enumerate([0.0, 0.5, 0.6, 0.6]):
        torch.nn.init.normal_(weight)
        variance.uniform_()
        network.decoder.reduce[1].num_batches_tracked += 1
        average.follow(NOTHING, NOTHING)
        now = torch.cat([weight.detach().flatten(), variance])
        expected = now if expected is None else decay * expected + (1 - decay) * now
        found = average.network.decoder
        torch.testing.assert_close(
            torch.cat([found.classifier.weight.flatten(), found.reduce[1].running_var]), expected
        )
        assert found.reduce[1].num_batches_tracked == step + 1


def test_in_idle_steps_it_is_a_copy(network):
    average, weight = Average(network, 0.9, idle=3), network.decoder.classifier.weight
    for _ in range(3):
        torch.nn.init.normal_(weight)
        average.follow(NOTHING, NOTHING)
        assert torch.equal(average.network.decoder.classifier.weight, weight)
    before = weight.detach().clone()
    torch.nn.init.normal_(weight)
    average.follow(NOTHING, NOTHING)
    torch.testing.assert_close(average.network.decoder.classifier.weight, 0.75 * before + 0.25 * weight.detach())


def test_without_decay_it_is_the_network(network):
    average = Average(network, 0.0)
    torch.nn.init.normal_(network.decoder.classifier.weight)
    for _ in range(3):
        average.follow(NOTHING, NOTHING)
    for name, tensor in network.state_dict().items():
        assert torch.equal(average.network.state_dict()[name], tensor), name


def test_it_neither_trains_nor_follows_by_itself(network):
    average = Average(network, 0.9)
    before = average.network.decoder.classifier.weight.clone()
    torch.nn.init.normal_(network.decoder.classifier.weight)
    assert torch.equal(average.network.decoder.classifier.weight, before)
    assert not any(p.requires_grad for p in average.network.parameters())
    assert not average.network.training
    assert network.training


def test_another_one_goes_on_where_it_was(network):
    first, second = Average(network, 0.9), Average(network, 0.9)
    for _ in range(3):
        torch.nn.init.normal_(network.decoder.classifier.weight)
        first.follow(NOTHING, NOTHING)
    second.network.load_state_dict(first.network.state_dict())
    second.load_state_dict(first.state_dict())
    torch.nn.init.normal_(network.decoder.classifier.weight)
    for average in (first, second):
        average.follow(NOTHING, NOTHING)
    assert torch.equal(first.network.decoder.classifier.weight, second.network.decoder.classifier.weight)
