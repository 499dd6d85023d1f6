import dataclasses

import pytest
import torch
from conftest import TINY
from torch import nn

from prevmatch.bank import PreviousModels
from prevmatch.config import SegmenterConfig
from prevmatch.guides.guide import Versions
from prevmatch.guides.previous import joins_bank, previous
from prevmatch.models.frozen import Frozen, build_skeleton, frozen_logits, tensors_of
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.state import TrainState

CONFIG = SegmenterConfig(encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Segmenter(CONFIG).train()


def guide_of(student, **settings):
    return previous(dataclasses.replace(TINY, **settings), Versions(0, student, Frozen(student)))


def filled(student, **settings):
    """A guide with three different versions, and their tensors."""
    guide, members = guide_of(student, random_ensemble_size=False, **settings), []
    for _ in range(3):
        nn.init.normal_(student.decoder.classifier.weight)
        nn.init.uniform_(student.decoder.reduce[1].running_var, 0.5, 2.0)
        guide.bank.push(student)
        members.append({k: v.clone() for k, v in tensors_of(student).items()})
    return guide, members


def drawn_next(guide):
    twin = PreviousModels(8)
    twin.load_state_dict(guide.bank.state_dict())
    return twin.draw(3, random_size=False)


def plain(tensors, images):
    return frozen_logits(build_skeleton(CONFIG), tensors, images)


def test_ensemble_is_the_weighted_sum_of_the_members_logits(student):
    guide, _ = filled(student)
    images, drawn = torch.randn(3, 3, 32, 32), drawn_next(guide)
    expected = sum(share * plain(member, images) for share, member in drawn)
    torch.testing.assert_close(guide.label(images), expected, rtol=1e-4, atol=1e-4)


def test_soup_answers_by_the_weighted_sum_of_the_members_themselves(student):
    guide, members = filled(student, previous_ensemble="weights")
    images, drawn = torch.randn(3, 3, 32, 32), drawn_next(guide)
    before = {k: v.clone() for k, v in guide.bank.latest(1)[0].items()}
    mean = {
        name: sum(share * member[name] for share, member in drawn) if t.is_floating_point() else t
        for name, t in members[0].items()
    }
    answer = guide.label(images)
    torch.testing.assert_close(answer, plain(mean, images), rtol=1e-4, atol=1e-4)
    logits = sum(share * plain(member, images) for share, member in drawn)
    assert not torch.allclose(answer, logits, rtol=1e-3, atol=1e-3)
    assert all(torch.equal(t, before[name]) for name, t in guide.bank.latest(1)[0].items())


@pytest.mark.parametrize("ensemble", ["logits", "weights"])
def test_preview_is_the_mean_over_the_newest_members_and_leaves_the_draws_alone(student, ensemble):
    guide, members = filled(student, ensemble_size=2, previous_ensemble=ensemble)
    images, generator = torch.randn(1, 3, 32, 32), guide.bank.state_dict()["generator"]
    newest = members[-2:]
    expected = sum(plain(member, images) for member in newest) / 2
    if ensemble == "weights":
        mean = {k: (newest[0][k] + newest[1][k]) / 2 if t.is_floating_point() else t for k, t in newest[0].items()}
        expected = plain(mean, images)
    torch.testing.assert_close(guide.preview(images), expected, rtol=1e-4, atol=1e-4)
    assert guide.bank.state_dict()["generator"] == generator
    assert guide_of(student).preview(images) is None


def test_network_joins_at_the_beginning_of_an_epoch_and_counts_by_the_triangle(student):
    guide = guide_of(student, epochs=4)
    seen = []
    for epoch, batch in ((0, 0), (1, 0), (1, 3), (2, 0), (3, 0)):
        guide.begin(TrainState(epoch=epoch, batch=batch))
        seen.append((len(guide.bank), guide.weight))
    assert seen == [(0, 0.0), (1, 0.5), (1, 0.5), (2, 1.0), (3, 0.5)]
    assert guide.facts(3) == {"bank": 3, "bank_ages": [2, 1, 0]}


def test_members_are_kept_as_the_network_was(student):
    guide = guide_of(student, epochs=4)
    guide.begin(TrainState(epoch=1))
    [member] = guide.bank.latest(1)
    assert all(torch.equal(member[name], t) for name, t in tensors_of(student).items())


def test_another_guide_goes_on_from_its_state(student):
    guide, _ = filled(student)
    other = guide_of(student, random_ensemble_size=False)
    other.load_state_dict(guide.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(guide.label(images), other.label(images))


@pytest.mark.parametrize(
    ("policy", "improved", "epoch", "joins"),
    [
        ("best", True, 1, False),
        ("best", True, 2, True),
        ("best", False, 3, False),
        ("interval", False, 0, False),
        ("interval", False, 3, False),
        ("interval", False, 4, True),
    ],
)
def test_bank_policies(policy, improved, epoch, joins):
    config = dataclasses.replace(TINY, bank_policy=policy, bank_interval=2, bank_start_epoch=2)
    assert joins_bank(config, TrainState(epoch=epoch, improved=improved)) is joins
