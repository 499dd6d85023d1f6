import dataclasses

import pytest
import torch
from conftest import TINY

from prevmatch.guides.thresholds import ClassConfidence, accepts_of

CPU = torch.device("cpu")


def logits_of(probabilities):
    """Logits (1, C, 1, W) with the given class probabilities per pixel."""
    return torch.tensor(probabilities).T.log()[None, :, None]


def test_confidence_is_the_moving_mean_probability_of_the_true_class_and_absent_classes_are_left_out():
    known = ClassConfidence(3, 0.5, CPU)
    known.follow(logits_of([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]), torch.tensor([[[0, 0, 1]]]))
    assert known.relative().tolist() == pytest.approx([1.0, 1.0, 1.0])
    known.follow(logits_of([[0.1, 0.1, 0.8], [0.4, 0.3, 0.3], [0.8, 0.1, 0.1]]), torch.tensor([[[2, 0, 255]]]))
    # class 0: .7 and then .4 at momentum .5, of weights .25 and .5; class 1 is not seen again; 255 is ignored
    first = (0.5 * 0.5 * 0.7 + 0.5 * 0.4) / 0.75
    assert known.relative().tolist() == pytest.approx([first / 0.8, 0.7 / 0.8, 1.0])


def test_a_class_never_seen_has_the_whole_threshold():
    known = ClassConfidence(2, 0.9, CPU)
    accepts = accepts_of(dataclasses.replace(TINY, threshold_floor=0.1), 0.8, known)
    labels, confidence = torch.tensor([[[0, 1]]]), torch.tensor([[[0.79, 0.81]]])
    assert accepts(labels, confidence).tolist() == [[[False, True]]]
    known.follow(logits_of([[0.9, 0.1]]), torch.tensor([[[0]]]))
    assert accepts(labels, confidence).tolist() == [[[False, True]]]


def test_thresholds_follow_confidence_down_to_the_floor():
    known = ClassConfidence(3, 0.9, CPU)
    known.follow(logits_of([[0.9, 0.05, 0.05], [0.1, 0.81, 0.09], [0.6, 0.3, 0.1]]), torch.tensor([[[0, 1, 2]]]))
    accepts = accepts_of(dataclasses.replace(TINY, threshold_floor=0.5), 0.9, known)
    edges = [0.9, 0.9 * 0.81 / 0.9, 0.5]  # .9 · .1 / .9 lies below the floor
    for label, edge in enumerate(edges):
        labels = torch.full((1, 1, 2), label)
        assert accepts(labels, torch.tensor([[[edge - 0.001, edge + 0.001]]])).tolist() == [[[False, True]]]


def test_a_floor_above_the_threshold_raises_nothing():
    known = ClassConfidence(2, 0.9, CPU)
    accepts = accepts_of(dataclasses.replace(TINY, threshold_floor=0.7), 0.2, known)
    assert accepts(torch.zeros(1, 1, 1, dtype=torch.int64), torch.tensor([[[0.3]]])).all()


def test_another_one_goes_on_from_its_state():
    first, second = ClassConfidence(3, 0.9, CPU), ClassConfidence(3, 0.9, CPU)
    torch.manual_seed(0)
    first.follow(torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.relative(), second.relative())
    assert not torch.equal(second.relative(), torch.ones(3))


def test_without_statistics_all_classes_have_one_threshold():
    accepts = accepts_of(TINY, 0.6, None)
    assert accepts(torch.tensor([[[0, 1]]]), torch.tensor([[[0.59, 0.6]]])).tolist() == [[[False, True]]]
