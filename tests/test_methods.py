import dataclasses

import pytest
import torch
from conftest import TINY
from torch import nn

from prevmatch.guides import Guide
from prevmatch.losses import cross_entropy
from prevmatch.methods import FIXMATCH, METHODS, PREVMATCH, SUPERVISED, UNIMATCH, method_of, step
from prevmatch.views import Views, paste

CLASSES = 3


class OneConv(nn.Module):
    """The smallest network with the Segmenter's interface."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 1)

    def forward(self, images, feature_dropout=None, *, enlarged=True):
        logits = self.conv(images)
        return logits if feature_dropout is None else (logits, 0.5 * logits)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return OneConv()


@pytest.fixture
def views():
    torch.manual_seed(1)

    def images():
        return torch.randn(2, 3, 4, 4)

    boxes = tuple(torch.rand(2, 4, 4) < 0.4 for _ in range(2))
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[0, 3] = False
    return Views(
        labelled=images(), mask=torch.randint(0, CLASSES, (2, 4, 4)), weak=images(), valid=valid,
        partner=images(), partner_valid=torch.ones(2, 4, 4, dtype=torch.bool),
        strong=tuple(paste(box, images(), images()) for box in boxes), boxes=boxes,
    )  # fmt: skip


def guide_saying(name, label, *, weight=1.0, threshold=0.5):
    """A guide that is sure of one class everywhere."""

    def logits(images):
        out = torch.zeros(len(images), CLASSES, *images.shape[-2:])
        out[:, label] = 20
        return out

    return Guide(name=name, answer=lambda w, m: (logits(w), logits(m)), threshold=threshold, weight=weight)


def run(network, views, method, *guides):
    count = len(method.strong)
    views = views._replace(strong=views.strong[:count], boxes=views.boxes[:count])
    return step(network, views, method=method, guides=guides, supervised_loss=cross_entropy)


def test_supervised_loss_is_cross_entropy_of_the_labelled_images(network, views):
    losses = run(network, views, SUPERVISED)
    torch.testing.assert_close(losses["loss"], cross_entropy(network(views.labelled), views.mask))


def test_fixmatch_averages_supervised_and_one_strong_view(network, views):
    losses = run(network, views, FIXMATCH, guide_saying("student", 1))
    torch.testing.assert_close(losses["loss"], (losses["supervised"] + losses["student/strong1"]) / 2)


def test_unimatch_weighs_two_strong_views_and_the_perturbed_features(network, views):
    losses = run(network, views, UNIMATCH, guide_saying("student", 1))
    expected = losses["supervised"] + sum(
        weight * losses[f"student/{name}"] for name, weight in (("strong1", 0.25), ("strong2", 0.25), ("feature", 0.5))
    )
    torch.testing.assert_close(losses["loss"], expected / 2)


def test_a_second_guide_adds_its_weight_to_sum_and_divisor(network, views):
    own, other = guide_saying("student", 1), guide_saying("previous", 2, weight=0.3)
    alone, both = run(network, views, UNIMATCH, own), run(network, views, PREVMATCH, own, other)
    guidance = sum(
        weight * both[f"previous/{name}"] for name, weight in (("strong1", 0.25), ("strong2", 0.25), ("feature", 0.5))
    )
    torch.testing.assert_close(both["loss"], (2 * alone["loss"] + 0.3 * guidance) / 2.3)


def test_labels_are_pasted_by_the_boxes_of_their_view(network, views):
    def answer(weak, partner):
        one, two = (torch.zeros(2, CLASSES, 4, 4) for _ in range(2))
        one[:, 1], two[:, 2] = 20, 20
        return one, two

    losses = run(network, views, FIXMATCH, Guide(name="student", answer=answer, threshold=0.5))
    target = paste(views.boxes[0], torch.full((2, 4, 4), 2), torch.full((2, 4, 4), 1))
    valid = paste(views.boxes[0], views.partner_valid, views.valid)
    pixels = nn.functional.cross_entropy(network(views.strong[0]), target, reduction="none")
    torch.testing.assert_close(losses["student/strong1"], (pixels * valid).sum() / valid.sum())


def test_leaving_out_partners_that_no_box_shows_changes_nothing(network, views):
    views.boxes[0][1], views.boxes[1][1] = False, False
    own = Guide(name="student", answer=lambda w, m: (None, network(m)), threshold=0.4)
    rows = torch.tensor([0])
    fewer = views._replace(partner=views.partner[rows], partner_valid=views.partner_valid[rows], partner_rows=rows)
    full, part = (run(network, v, UNIMATCH, own, guide_saying("previous", 2)) for v in (views, fewer))
    assert full.keys() == part.keys()
    for name, value in full.items():
        torch.testing.assert_close(part[name], value)


def test_without_partners_labels_come_from_the_image_before(network, views):
    asked = []
    rolled = views._replace(partner=views.weak.roll(1, 0), partner_valid=views.valid.roll(1, 0))
    explicit = Guide(name="student", answer=lambda w, m: (network(w), network(m)), threshold=0.4)

    def answer(weak, partner):
        asked.append(partner)
        return network(weak), None

    guide = Guide(name="student", answer=answer, threshold=0.4)
    short = run(network, views._replace(partner=None, partner_valid=None), UNIMATCH, guide)
    assert asked == [None]
    for name, value in run(network, rolled, UNIMATCH, explicit).items():
        torch.testing.assert_close(short[name], value)


def test_a_guide_without_answer_for_weak_images_means_the_students_own_labels(network, views):
    own = Guide(name="student", answer=lambda w, m: (None, network(m)), threshold=0.0)
    explicit = Guide(name="student", answer=lambda w, m: (network(w), network(m)), threshold=0.0)
    torch.testing.assert_close(
        run(network, views, UNIMATCH, own)["loss"], run(network, views, UNIMATCH, explicit)["loss"]
    )


def test_guides_are_asked_before_the_student_trains(views):
    network = OneConv()
    network.conv = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, CLASSES, 1))
    seen = []

    def answer(weak, partner):
        seen.append(network.conv[0].num_batches_tracked.item())
        return torch.zeros(2, CLASSES, 4, 4), torch.zeros(2, CLASSES, 4, 4)

    run(network, views, FIXMATCH, Guide(name="student", answer=answer, threshold=0.5))
    assert seen == [0]


def test_mask_ratio_is_the_accepted_share_of_real_pixels(network, views):
    assert run(network, views, FIXMATCH, guide_saying("student", 0))["student/mask_ratio"] == 1
    unsure = Guide(name="student", answer=lambda w, m: (torch.zeros(2, CLASSES, 4, 4),) * 2, threshold=0.5)
    losses = run(network, views, FIXMATCH, unsure)
    assert losses["student/mask_ratio"] == 0
    assert losses["student/strong1"] == 0


def test_gradient_flows_only_through_the_student(network, views):
    teacher = OneConv()
    guide = Guide(name="teacher", answer=lambda w, m: (teacher(w), teacher(m)), threshold=0.0)
    run(network, views, UNIMATCH, guide)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", ["fixmatch", "unimatch", "prevmatch"])
def test_previous_guidance_goes_over_any_method(name):
    method = method_of(dataclasses.replace(TINY, method=name, previous_guidance=True))
    assert method.guides == ("student", "previous")
    assert method.strong == METHODS[name].strong


def test_previous_guidance_over_supervised_gives_it_a_view_to_answer():
    method = method_of(dataclasses.replace(TINY, method="supervised", previous_guidance=True))
    assert method.guides == ("previous",)
    assert method.strong == (1.0,)


def test_prevmatch_is_unimatch_with_previous_guidance():
    assert method_of(dataclasses.replace(TINY, method="unimatch", previous_guidance=True)) == PREVMATCH
