"""UniMatch V2's step, value by value, against its public code's arithmetic written out once more in plain torch."""

import dataclasses
import json
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch.nn.functional import cross_entropy as ce
from torch.nn.functional import interpolate

import prevmatch.losses
from prevmatch import train
from prevmatch.average import Average
from prevmatch.config import SegmenterConfig
from prevmatch.guides.teacher import Teacher
from prevmatch.guides.thresholds import reaches
from prevmatch.methods import FIXMATCH, METHODS, UNIMATCH_V2, Forward, method_of, step, with_complementary_channels
from prevmatch.mixing import StrongView
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.views import Views

B, C, SIDE, TAU, LR, STEPS = 4, 3, 48, 0.6, 1e-3, 4
CAP = 0.7  # of the decay, so that a few steps reach it


def draw_batch():
    """Labelled images and masks, weak views with what of them is no padding, two strong views with their boxes."""
    images = [torch.randn(B, 3, SIDE, SIDE, dtype=torch.float64) for _ in range(4)]
    valid = torch.ones(B, SIDE, SIDE, dtype=torch.bool)
    valid[0, 40:] = valid[2, :, 30:] = False
    boxes = torch.zeros(2, B, SIDE, SIDE, dtype=torch.bool)
    boxes[0, 0, 5:30, 9:40] = boxes[0, 3, 20:, :11] = boxes[1, 1, :25] = boxes[1, 2, 8:33, 4:20] = True
    return *images, torch.randint(0, C, (B, SIDE, SIDE)), valid, boxes


class Written:
    """The same training, as straight on as it can be said: LiheYoung/UniMatch-V2's unimatch_v2.py in other words."""

    def __init__(self, network):
        self.student, self.teacher = network, deepcopy(network).eval()
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
        self.iteration = 0

    def losses(self, x, weak, s1, s2, mask, valid, boxes, seed):
        with torch.no_grad():
            confidence, label = self.teacher(weak).softmax(1).max(1)
        # What each strong view shows, and what is said of it: in the box that of the batch read from its end.
        shown, told = [], []
        for strong, box in zip((s1, s2), boxes, strict=True):
            parts = [strong.clone(), label.clone(), confidence.clone(), valid.clone()]
            for part, source in zip(parts, (strong, label, confidence, valid), strict=True):
                for i in range(B):
                    part[i][..., box[i]] = source[B - 1 - i][..., box[i]]
            shown.append(parts[0])
            told.append(parts[1:])
        torch.manual_seed(seed)
        rank, coins = torch.rand(B).argsort(), torch.randint(2, (B, 64))
        features = self.student.encoder(torch.cat(shown))
        for feature in features:
            for i in range(B):
                for channel in range(64):
                    scale = 1 if rank[i] < B // 2 else 2 * int(coins[i, channel])
                    feature[i, channel] = feature[i, channel] * scale
                    feature[B + i, channel] = feature[B + i, channel] * (2 - scale)
        small = self.student.decoder(*features)
        logits = interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=True)
        terms = []
        for predicted, (ids, sure, real) in zip(logits.chunk(2), told, strict=True):
            pixels = ce(predicted, ids, reduction="none") * ((sure >= TAU) & real)
            terms.append(pixels.sum() / real.sum())
        supervised = ce(self.student(x), mask)
        ratio = ((confidence >= TAU) & valid).sum() / valid.sum()
        return (supervised + (terms[0] + terms[1]) / 2) / 2, supervised, *terms, ratio

    def learn(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        decay = min(1 - 1 / (self.iteration + 1), CAP)
        for mean, value in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mean.data = mean.data * decay + value.data * (1 - decay)
        self.iteration += 1


def test_every_value_of_a_few_steps_is_that_of_the_plain_transcription():
    torch.manual_seed(0)
    network = Segmenter(SegmenterConfig(encoder="test_vit", num_classes=C)).double().train()
    with torch.no_grad():  # else no image says anything
        [*network.decoder.parameters()][-2].mul_(20)
    written = Written(deepcopy(network))
    average = Average(network, CAP)
    frozen = Frozen(network, torch.float64, side=SIDE)
    guide = Teacher(name="teacher", accepts=partial(reaches, TAU), frozen=frozen, average=average)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    ratios = []
    for seed in range(STEPS):
        x, weak, s1, s2, mask, valid, boxes = draw_batch()
        donor = torch.arange(B).flip(0)
        strong = tuple(StrongView(s, box, donor) for s, box in zip((s1, s2), boxes, strict=True))
        torch.manual_seed(seed)
        found = step(
            [SimpleNamespace(prepared=network, guides=[guide])],
            Views(x, mask, weak, valid, strong),
            method=UNIMATCH_V2,
            supervised_loss=prevmatch.losses.cross_entropy,
        ).losses
        expected = written.losses(x, weak, s1, s2, mask, valid, boxes, seed)
        names = ("loss", "supervised", "teacher/strong1", "teacher/strong2", "teacher/mask_ratio")
        for name, value in zip(names, expected, strict=True):
            torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-7, atol=1e-7, msg=name)
        ratios.append(float(found["teacher/mask_ratio"]))
        written.learn(expected[0])
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        average.follow(torch.zeros(0), mask)
        for ours, theirs in ((network, written.student), (average.network, written.teacher)):
            torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))
    assert all(0.05 < ratio < 0.95 for ratio in ratios), ratios


def test_two_views_keep_complementary_channels_and_half_of_the_images_all():
    torch.manual_seed(0)
    features = [torch.ones(8, 400, 2, 3) for _ in range(4)] + [torch.ones(8, 7, 5, 4)]
    *levels, narrow = with_complementary_channels(features)
    assert all(torch.equal(level, levels[0]) for level in levels)
    for level in (levels[0], narrow):
        first, second = level.chunk(2)
        assert torch.equal(first + second, torch.full_like(first, 2))
        assert torch.equal(level, level[:, :, :1, :1].expand_as(level))
    whole = [bool((image == 1).all()) for image in levels[0].chunk(2)[0]]
    assert sum(whole) == 2
    assert [bool((image == 1).all()) for image in narrow.chunk(2)[0]] == whole
    for image, kept in zip(levels[0].chunk(2)[0], whole, strict=True):
        assert kept or 0.4 < (image == 2).double().mean() < 0.6
    draws = {tuple(with_complementary_channels(features)[0][:4, 0, 0, 0].tolist()) for _ in range(20)}
    assert len(draws) > 5


VIT = dataclasses.replace(
    TINY, encoder="test_vit", crop_size=48, optimizer="adamw", lr=1e-3, logging_steps=1, panel_every=0, epochs=2
)


def test_without_dropout_and_memory_it_is_fixmatch_with_two_views(tiny_data, tmp_path, monkeypatch, one_thread):
    strong, halves = Forward(("strong1", "strong2")), {"strong1": 0.5, "strong2": 0.5}
    plain = dataclasses.replace(UNIMATCH_V2, forwards=(Forward(("labelled",)), strong))
    twice = dataclasses.replace(
        FIXMATCH, forwards=(Forward(("labelled", "weak")), strong), weights=halves, partner="reversed"
    )
    curves = []
    for name, method, guide, decay in (("unimatch_v2", plain, "teacher", 0.0), ("fixmatch", twice, "student", None)):
        monkeypatch.setitem(METHODS, name, method)
        train(dataclasses.replace(VIT, method=name, ema_decay=decay, output_dir=tmp_path / name), tiny_data)
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        names = ("loss", "supervised", "grad_norm", f"{guide}/strong1", f"{guide}/strong2", f"{guide}/mask_ratio")
        curves.append([[line[name] for name in names] for line in lines if "loss" in line])
    assert len(curves[0]) == 6
    assert all(line[3] > 0 for line in curves[0])
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "partner", "decay"),
    [({}, "reversed", 0.996), ({"partner": "labelled", "ema_decay": 0.9}, "labelled", 0.9),
     ({"previous_guidance": True}, "reversed", 0.996), ({"method": "mean_teacher"}, "independent", 0.99),
     ({"method": "supervised", "previous_guidance": True, "partner": "batch"}, "batch", 0.99)],
)  # fmt: skip
def test_partner_and_decay_are_the_methods_where_nothing_is_said(changes, partner, decay):
    method = method_of(dataclasses.replace(TINY, **{"method": "unimatch_v2"} | changes))
    assert (method.partner, method.ema_decay) == (partner, decay)
