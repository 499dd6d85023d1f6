import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch import nn

from prevmatch.guides.guide import Guide
from prevmatch.guides.itself import itself
from prevmatch.guides.previous import previous
from prevmatch.guides.teacher import teacher
from prevmatch.guides.temporary import temporary
from prevmatch.guides.thresholds import reaches
from prevmatch.losses import cross_entropy
from prevmatch.methods import (
    FIXMATCH,
    MEAN_TEACHER,
    METHODS,
    PREVMATCH,
    SUPERVISED,
    UNIMATCH,
    Forward,
    Method,
    method_of,
    step,
)
from prevmatch.mixing import Labels, StrongView, paste
from prevmatch.views import Views

CLASSES = 3


class OneConv(nn.Module):
    """The smallest network with the Segmenter's interface; what passes it is noted."""

    def __init__(self):
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, CLASSES, 1), []

    def forward(self, images, perturb=None, *, enlarged=True):
        self.seen.append(images)
        logits = self.conv(images)
        return logits if perturb is None else torch.cat([logits, 0.5 * logits])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return OneConv()


@pytest.fixture
def views():
    """Two labelled and two unlabelled images, two partners, two strong views that show them in boxes."""
    torch.manual_seed(1)
    valid = torch.ones(4, 4, 4, dtype=torch.bool)
    valid[0, 3] = False
    donor = torch.tensor([2, 3])
    strong = tuple(StrongView(torch.randn(4, 3, 4, 4), torch.rand(2, 4, 4) < 0.4, donor) for _ in range(2))
    return Views(
        torch.randn(2, 3, 4, 4), torch.randint(0, CLASSES, (2, 4, 4)), torch.randn(4, 3, 4, 4), valid, strong
    )  # fmt: skip


class Saying(Guide):
    """A guide whose logits a function gives."""

    def __init__(self, name, logits, *, threshold=0.5, **options):
        super().__init__(name=name, accepts=partial(reaches, threshold), **options)
        self.logits = logits

    def label(self, images):
        return self.logits(images)


def sure_of(label):
    def logits(images):
        out = torch.zeros(len(images), CLASSES, *images.shape[-2:])
        out[:, label] = 20
        return out

    return logits


def guide_saying(name, label, **options):
    """A guide that is sure of one class everywhere."""
    return Saying(name, sure_of(label), **options)


def run(network, views, method, *guides):
    views = views._replace(strong=views.strong[: method.strong_views])
    return step(
        [SimpleNamespace(prepared=network, guides=guides)], views, method=method, supervised_loss=cross_entropy
    ).losses


def test_supervised_loss_is_cross_entropy_of_the_labelled_images(network, views):
    losses = run(network, views, SUPERVISED)
    torch.testing.assert_close(losses["loss"], cross_entropy(network(views.labelled), views.mask))


def test_fixmatch_averages_supervised_and_one_strong_view(network, views):
    losses = run(network, views, FIXMATCH, guide_saying("student", 1))
    torch.testing.assert_close(losses["loss"], (losses["supervised"] + losses["student/strong1"]) / 2)


def test_mean_teacher_adds_them_undivided_and_lets_them_share_a_batch(network, views):
    losses = run(network, views, MEAN_TEACHER, guide_saying("teacher", 1))
    torch.testing.assert_close(losses["loss"], losses["supervised"] + losses["teacher/strong1"])
    assert [len(images) for images in network.seen] == [4]
    assert torch.equal(network.seen[0][:2], views.labelled)


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
    def logits(images):
        return torch.cat([sure_of(1)(images[:2]), sure_of(2)(images[2:])])

    losses = run(network, views, FIXMATCH, Saying("student", logits))
    [_, strong] = network.seen
    view = views.strong[0]
    assert torch.equal(strong, paste(view.box, view.pool, view.donor))
    target = torch.where(view.box, 2, 1)
    valid = paste(view.box, views.valid, view.donor)
    pixels = nn.functional.cross_entropy(network(strong), target, reduction="none")
    torch.testing.assert_close(losses["student/strong1"], (pixels * valid).sum() / valid.sum())


def test_a_mixing_may_look_at_the_labels(network, views):
    """Mixing comes after labelling: here a view shows its donor wherever the first guide says class 1."""
    asked = []

    def by_class(view, labels, logits):
        asked.append(labels)
        box = labels[0].ids[:2] == 1
        return paste(box, view.pool, view.donor), [Labels(*(paste(box, part, view.donor) for part in said))
                                                   for said in labels]  # fmt: skip

    method = dataclasses.replace(FIXMATCH, mixing=by_class)
    run(network, views, method, Saying("student", network, threshold=0.0), guide_saying("previous", 2))
    [labels] = asked
    assert [len(said.ids) for said in labels] == [4, 4]
    box = labels[0].ids[:2] == 1
    assert 0 < box.sum() < box.numel()
    assert torch.equal(network.seen[-1], paste(box, views.strong[0].pool, views.strong[0].donor))


def test_labelled_images_can_be_donors(network, views):
    pool = torch.cat([views.strong[0].pool[:2], views.labelled])
    views = views._replace(
        weak=views.weak[:2], valid=views.valid[:2], strong=(views.strong[0]._replace(pool=pool), views.strong[1])
    )
    losses = run(network, views, FIXMATCH, guide_saying("student", 0))
    view = views.strong[0]
    target = torch.where(view.box, views.mask, 0)
    valid = view.box | views.valid
    pixels = nn.functional.cross_entropy(network(network.seen[-1]), target, reduction="none")
    torch.testing.assert_close(losses["student/strong1"], (pixels * valid).sum() / valid.sum())


def test_a_guide_that_reads_the_student_has_its_train_mode_labels_and_is_asked_about_partners_only(network, views):
    asked = []

    def logits(images):
        asked.append(images)
        return network(images)

    own, explicit = Saying("student", logits, threshold=0.0, reads=0), Saying("student", network, threshold=0.0)
    torch.testing.assert_close(
        run(network, views, UNIMATCH, own)["loss"], run(network, views, UNIMATCH, explicit)["loss"]
    )
    assert torch.equal(asked[0], views.weak[2:])


def test_without_partners_such_a_guide_is_not_asked_at_all(network, views):
    donor = torch.tensor([1, 0])
    few = views._replace(
        weak=views.weak[:2],
        valid=views.valid[:2],
        strong=tuple(v._replace(pool=v.pool[:2], donor=donor) for v in views.strong),
    )
    own, explicit = Saying("student", None, threshold=0.4, reads=0), Saying("student", network, threshold=0.4)
    for name, value in run(network, few, UNIMATCH, explicit).items():
        torch.testing.assert_close(run(network, few, UNIMATCH, own)[name], value)


def sizes(network, views, method, *guides):
    network.seen.clear()
    run(network, views, method, *guides)
    return [len(images) for images in network.seen]


def test_views_that_nobody_reads_do_not_pass_the_student(network, views):
    own, other = Saying("student", network, reads=0), guide_saying("teacher", 1)
    asleep = guide_saying("previous", 1, weight=0.0)
    partners = 2  # by the guide, which is the same network here
    assert sizes(network, views, FIXMATCH, own) == [partners, 4, 2]
    assert sizes(network, views, FIXMATCH, other) == [2, 2]  # labelled and strong, no weak
    assert sizes(network, views, UNIMATCH, other) == [4, 4]  # their features are perturbed
    assert sizes(network, views, FIXMATCH, asleep) == [2]
    assert sizes(network, views, UNIMATCH) == [2]


def test_students_learn_as_they_would_alone(views):
    """A list of students: their losses are added, and one may be the other's guide."""
    torch.manual_seed(2)
    first, second = OneConv(), OneConv()
    guides = [[Saying("peer", second, threshold=0.0, reads=1)], [Saying("peer", first, threshold=0.0, reads=0)]]
    students = [SimpleNamespace(prepared=n, guides=g) for n, g in zip((first, second), guides, strict=True)]
    views = views._replace(strong=views.strong[:1])
    together = step(students, views, method=FIXMATCH, supervised_loss=cross_entropy)
    alone = [
        run(network, views, FIXMATCH, Saying("peer", other, threshold=0.0))
        for network, other in ((first, second), (second, first))
    ]
    torch.testing.assert_close(together.losses["loss"], alone[0]["loss"] + alone[1]["loss"])
    torch.testing.assert_close(together.losses["2/peer/strong1"], alone[1]["peer/strong1"])
    assert [logits.shape for logits in together.labelled] == [(2, CLASSES, 4, 4)] * 2


def test_a_student_without_guides_still_says_what_another_one_reads(views):
    torch.manual_seed(2)
    first, second = OneConv(), OneConv()
    guides = [[Saying("peer", second, threshold=0.0, reads=1)], []]
    students = [SimpleNamespace(prepared=n, guides=g) for n, g in zip((first, second), guides, strict=True)]
    views = views._replace(strong=views.strong[:1])
    losses = step(students, views, method=FIXMATCH, supervised_loss=cross_entropy).losses
    alone = run(first, views, FIXMATCH, Saying("peer", second, threshold=0.0))
    torch.testing.assert_close(losses["peer/strong1"], alone["peer/strong1"])
    torch.testing.assert_close(losses["loss"], alone["loss"] + cross_entropy(second(views.labelled), views.mask))


def test_guides_are_asked_before_the_student_trains(views):
    network = OneConv()
    network.conv = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, CLASSES, 1))
    seen = []

    def logits(images):
        seen.append(network.conv[0].num_batches_tracked.item())
        return torch.zeros(len(images), CLASSES, 4, 4)

    run(network, views, FIXMATCH, Saying("student", logits, reads=0))
    assert seen == [0]


def test_mask_ratio_is_the_accepted_share_of_real_pixels(network, views):
    assert run(network, views, FIXMATCH, guide_saying("student", 0))["student/mask_ratio"] == 1
    unsure = Saying("student", lambda images: torch.zeros(len(images), CLASSES, 4, 4))
    losses = run(network, views, FIXMATCH, unsure)
    assert losses["student/mask_ratio"] == 0
    assert losses["student/strong1"] == 0


def test_gradient_flows_only_through_the_student(network, views):
    other = OneConv()
    run(network, views, UNIMATCH, Saying("teacher", other, threshold=0.0))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in other.parameters())


def test_another_way_of_sharing_batches_is_another_value(network, views):
    method = Method(
        forwards=(Forward(("labelled", "strong1", "strong2")),),
        weights={"strong1": 1, "strong2": 1},
        guides=(teacher,),
    )
    assert sizes(network, views, method, guide_saying("teacher", 1)) == [6]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("fixmatch", itself),
        ("unimatch", itself),
        ("prevmatch", itself),
        ("mean_teacher", teacher),
        ("augseg", teacher),
        ("dual_teacher", temporary),
        ("unimatch_v2", teacher),
    ],
)
def test_previous_guidance_goes_over_any_method(name, own):
    method = method_of(dataclasses.replace(TINY, method=name, previous_guidance=True))
    assert method.guides == (own, previous)
    assert method.weights == METHODS[name].weights


@pytest.mark.parametrize("name", ["fixmatch", "unimatch", "prevmatch"])
def test_an_average_takes_the_students_place_as_guide_of_any_method(name):
    method = method_of(dataclasses.replace(TINY, method=name, ema_decay=0.99))
    assert method.guides == (teacher, *METHODS[name].guides[1:])
    assert method.forwards == METHODS[name].forwards


def test_previous_guidance_over_supervised_gives_it_a_view_to_answer():
    method = method_of(dataclasses.replace(TINY, method="supervised", previous_guidance=True))
    assert method.guides == (previous,)
    assert method.weights == {"strong1": 1.0}


def test_prevmatch_is_unimatch_with_previous_guidance():
    assert method_of(dataclasses.replace(TINY, method="unimatch", previous_guidance=True)) == PREVMATCH
