"""Dual Teacher's steps, epoch by epoch, against its public code's arithmetic written out once more."""

import dataclasses
import json
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch.nn.functional import cross_entropy as ce

import prevmatch.losses
from prevmatch import train
from prevmatch.average import Average
from prevmatch.config import SegmenterConfig
from prevmatch.guides.guide import Versions
from prevmatch.guides.temporary import temporary
from prevmatch.methods import DUAL_TEACHER, MEAN_TEACHER, METHODS, step
from prevmatch.mixing import Labels, StrongView, classmix, cutmix_of_one_size
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.state import TrainState
from prevmatch.views import Views

B, C, SIDE, TAU, LR, CAP = 4, 5, 48, 0.5, 0.05, 0.6
CONFIG = SegmenterConfig(
    encoder="test_resnet", num_classes=C, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3)
)


def same_size_boxes():
    """One size for the batch, area share 1 - Beta(4, 4), places of their own; drawn as ours are."""
    share = float(torch.distributions.Beta(torch.tensor(4.0), torch.tensor(4.0)).sample())
    half = int(SIDE * (1 - share) ** 0.5) // 2
    down, right = (SIDE // 8 + (torch.rand(B, 1) * (SIDE - SIDE // 8)).floor().long()[:, 0] for _ in range(2))
    boxes = torch.zeros(B, SIDE, SIDE, dtype=torch.bool)
    for box, y, x in zip(boxes, down.tolist(), right.tolist(), strict=True):
        box[max(0, y - half) : y + half, max(0, x - half) : x + half] = True
    return boxes


def elsewhere(labels):
    """Where not half of the classes of an image lie; drawn as ours are."""
    chance, boxes = torch.rand(B, C), []
    for draws, label in zip(chance, labels, strict=True):
        seen = sorted(set(label.flatten().tolist()), key=lambda c: float(draws[c]))
        kept = seen[: (len(seen) + 1) // 2]
        boxes.append(torch.stack([label != c for c in kept]).all(0))
    return torch.stack(boxes)


class Written:
    """The same training, as straight on as it can be said: two teachers that take turns, an epoch each."""

    def __init__(self, network):
        self.student, self.teachers = network, [deepcopy(network), deepcopy(network)]
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LR)

    def losses(self, epoch, iteration, x, weak, strong, mask, valid):
        active = self.teachers[epoch % 2]
        decay = min(1 - 1 / (iteration + 1), CAP)  # 0 in an epoch's first step: the student's weights
        for mean, value in zip(active.parameters(), self.student.parameters(), strict=True):
            mean.data = mean.data * decay + value.data * (1 - decay)
        with torch.no_grad():
            confidence, label = active(weak).softmax(1).max(1)
        box = elsewhere(label) if epoch % 2 else same_size_boxes()
        shown = [part.clone() for part in (strong, label, confidence, valid)]
        for part, source in zip(shown, (strong, label, confidence, valid), strict=True):
            for i in range(B):
                part[i][..., box[i]] = source[i - 1][..., box[i]]
        image, target, sure, real = shown
        plain = ce(self.student(strong), label, reduction="none") * ((confidence >= TAU) & valid)
        answer = self.student(torch.cat([x, image]))
        supervised = ce(answer[:B], mask, ignore_index=255)
        pixels = ce(answer[B:], target, reduction="none")  # each counts, by the accepted share of its image
        shares = [((s >= TAU) & r).sum() / r.sum() for s, r in zip(sure, real, strict=True)]
        mixed = sum(p.sum() * share for p, share in zip(pixels, shares, strict=True)) / real.sum()
        consistency = plain.sum() / valid.sum()
        return supervised + mixed + 0.2 * consistency, supervised, mixed, consistency

    def learn(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def test_every_value_of_three_epochs_is_that_of_the_plain_transcription():
    torch.manual_seed(0)
    network = Segmenter(CONFIG).double().train()
    with torch.no_grad():  # else no image says anything
        network.decoder.classifier.weight.mul_(20)
    written, average = Written(deepcopy(network)), Average(network, CAP)
    frozen = Frozen(deepcopy(network).float(), torch.float64, side=SIDE)
    config = dataclasses.replace(TINY, confidence_threshold=TAU)
    guide = temporary(config, Versions(0, network, frozen, average))
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    donor = torch.arange(B).roll(1)
    for epoch in range(3):
        guide.begin(TrainState(epoch=epoch))
        for iteration in range(3):
            x, weak, strong = torch.randn(3, B, 3, SIDE, SIDE, dtype=torch.float64)
            mask = torch.randint(0, C, (B, SIDE, SIDE))
            mask[:, :4] = 255
            valid = torch.ones(B, SIDE, SIDE, dtype=torch.bool)
            valid[1, 30:] = False
            view = StrongView(strong, torch.zeros(B, SIDE, SIDE, dtype=torch.bool), donor)
            seed = 10 * epoch + iteration
            torch.manual_seed(seed)
            found = step(
                [SimpleNamespace(prepared=network, guides=[guide])],
                Views(x, mask, weak, valid, (view,)),
                method=DUAL_TEACHER.at(epoch),
                supervised_loss=prevmatch.losses.cross_entropy,
            ).losses
            torch.manual_seed(seed)
            expected = written.losses(epoch, iteration, x, weak, strong, mask, valid)
            names = ("loss", "supervised", "teacher/strong1", "teacher/unmixed1")
            for name, value in zip(names, expected, strict=True):
                torch.testing.assert_close(found[name].double(), value, rtol=1e-7, atol=1e-7, msg=name)
            assert 0.05 < found["teacher/mask_ratio"] < 0.95
            written.learn(expected[0])
            optimizer.zero_grad()
            found["loss"].backward()
            optimizer.step()
            average.follow(torch.zeros(0), mask)
            torch.testing.assert_close(dict(network.named_parameters()), dict(written.student.named_parameters()))


def test_half_of_the_classes_stay_and_all_else_is_the_donor():
    torch.manual_seed(0)
    ids = torch.randint(0, 4, (64, 20, 30)) + 1  # of classes 0 to 6 only 1 to 4 occur
    ids[0] = 5
    pool = torch.stack([torch.full((3, 20, 30), float(i)) for i in range(64)])
    said = Labels(ids, torch.ones(64, 20, 30), torch.ones(64, 20, 30, dtype=torch.bool))
    view = StrongView(pool, torch.zeros(64, 20, 30, dtype=torch.bool), torch.arange(64).roll(1))
    images, [mixed] = classmix(view, [said], [torch.zeros(64, 7, 5, 5)])
    kept = []
    for i in range(64):
        own = images[i, 0] == i
        stays = set(ids[i][own].tolist())
        assert not stays & set(ids[i][~own].tolist())
        assert torch.equal(mixed.ids[i], torch.where(own, ids[i], ids[i - 1]))
        assert torch.equal(images[i, 0][~own], torch.full_like(images[i, 0][~own], (i - 1) % 64))
        assert len(stays) == (1 if i == 0 else 2)
        kept.append(stays)
    assert set().union(*kept[1:]) == {1, 2, 3, 4}


def test_boxes_of_a_batch_have_one_size():
    torch.manual_seed(0)
    pool = torch.cat([torch.zeros(40, 3, 64, 80), torch.ones(40, 3, 64, 80)])
    view = StrongView(pool, torch.zeros(40, 64, 80, dtype=torch.bool), torch.arange(40, 80))
    shown = [cutmix_of_one_size(view, [], [])[0][:, 0] for _ in range(100)]
    areas = torch.stack([images.sum((1, 2)) for images in shown]) / (64 * 80)
    assert (areas.max(1).values.mean() - 0.5).abs() < 0.06
    whole = areas > areas.max(1, keepdim=True).values - 1e-6  # not cut off at the border
    assert (whole.sum(1) > 1).double().mean() > 0.5


VIT = dataclasses.replace(
    TINY, encoder="test_vit", crop_size=48, optimizer="adamw", lr=1e-3, logging_steps=1, panel_every=0, epochs=3
)


def test_without_mixing_of_its_own_and_memory_it_is_mean_teacher(tiny_data, tmp_path, monkeypatch, one_thread):
    """Over a network without BatchNorm, where train mode and eval mode are one."""
    like = ("forwards", "weights", "weightings", "mixing", "partner", "draw", "box", "alternate")
    plain = dataclasses.replace(DUAL_TEACHER, **{name: getattr(MEAN_TEACHER, name) for name in like})
    assert dataclasses.replace(plain, guides=MEAN_TEACHER.guides) == MEAN_TEACHER
    monkeypatch.setitem(METHODS, "dual_teacher", plain)
    curves = []
    for name in ("dual_teacher", "mean_teacher"):
        train(dataclasses.replace(VIT, method=name, ema_decay=0.0, output_dir=tmp_path / name), tiny_data)
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        curves.append(
            [[line[k] for k in ("loss", "teacher/strong1", "grad_norm")] for line in lines if "loss" in line]
        )
    assert len(curves[0]) == 9
    assert all(line[1] > 0 for line in curves[0])
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_teacher_begins_each_epoch_as_the_student_unless_it_goes_on_within_one(resumed):
    network = Segmenter(CONFIG).train()
    guide = temporary(TINY, Versions(0, network, Frozen(network, side=SIDE), Average(network, CAP)))
    teacher, weight = guide.average.network.decoder.classifier.weight, network.decoder.classifier.weight
    torch.nn.init.normal_(weight)
    guide.begin(TrainState(epoch=3, batch=2 if resumed else 0))
    assert torch.equal(teacher, weight) != resumed
    before = teacher.clone()
    torch.nn.init.normal_(weight)
    guide.average.follow(torch.zeros(0), torch.zeros(0))
    if not resumed:  # as after the second step of an epoch
        torch.testing.assert_close(teacher, (before + weight.detach()) / 2)


def test_a_run_mixes_by_boxes_and_by_classes_in_turns(tiny_config, tiny_data, monkeypatch):
    called = []
    boxes = dataclasses.replace(DUAL_TEACHER, mixing=lambda *a: called.append("boxes") or cutmix_of_one_size(*a))
    classes = {**DUAL_TEACHER.alternate, "mixing": lambda *a: called.append("classes") or classmix(*a)}
    monkeypatch.setitem(METHODS, "dual_teacher", dataclasses.replace(boxes, alternate=classes))
    config = dataclasses.replace(tiny_config, method="dual_teacher", epochs=3, previous_guidance=True)
    train(config, tiny_data)
    assert called == ["boxes"] * 3 + ["classes"] * 3 + ["boxes"] * 3
    lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert {"teacher/strong1", "teacher/unmixed1", "previous/unmixed1"} <= set().union(*lines)
