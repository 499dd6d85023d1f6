import pytest
import torch
from torch import nn

from prevmatch.bank import PreviousModels
from prevmatch.config import SegmenterConfig
from prevmatch.guides import previous_models_as_guide, student_as_guide
from prevmatch.models.frozen import build_skeleton, frozen_logits, tensors_of
from prevmatch.models.segmenter import Segmenter

CONFIG = SegmenterConfig(encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Segmenter(CONFIG).train()


def forward(tensors, images):
    return frozen_logits(build_skeleton(CONFIG), tensors, images)


def weighted(bank, **options):
    defaults = {"most": 3, "random_size": False, "threshold": 0.5, "weighting": "pixelwise", "weight": 1.0}
    return previous_models_as_guide(forward, bank, **defaults | options)


def test_student_answers_partners_in_eval_mode_and_stays_in_train_mode(student):
    images = torch.randn(2, 3, 32, 32)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    weak, partner = student_as_guide(forward, lambda: tensors_of(student), threshold=0.9).answer(images, images)
    assert weak is None
    assert student.training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    torch.testing.assert_close(partner, student.eval()(images, enlarged=False).detach())


def test_ensemble_is_the_weighted_sum_of_the_members_logits(student):
    bank = PreviousModels(3, seed=1)
    members = []
    for _ in range(3):
        nn.init.normal_(student.decoder.classifier.weight)
        bank.push(student)
        members.append({k: v.clone() for k, v in tensors_of(student).items()})
    replay = PreviousModels(3)
    replay.load_state_dict(bank.state_dict())
    weak, partner = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    answers = weighted(bank).answer(weak, partner)
    drawn = replay.draw(3, random_size=False)
    for images, answer in zip((weak, partner), answers, strict=True):
        expected = sum(weight * forward(member, images) for weight, member in drawn)
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


def test_answers_need_no_gradient(student):
    bank = PreviousModels(1)
    bank.push(student)
    for guide in (weighted(bank), student_as_guide(forward, lambda: tensors_of(student), threshold=0.9)):
        assert not guide.answer(torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32))[1].requires_grad


def test_skeleton_takes_no_memory():
    assert all(p.is_meta for p in build_skeleton(CONFIG).parameters())
