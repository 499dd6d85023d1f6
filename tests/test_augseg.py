"""AugSeg's mixing, step and intensities against its public code's arithmetic written out once more."""

import dataclasses
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image, ImageEnhance, ImageOps
from torch.nn.functional import cross_entropy as ce
from torch.nn.functional import interpolate

import prevmatch.losses
from prevmatch.average import Average
from prevmatch.config import SegmenterConfig
from prevmatch.guides.teacher import Teacher
from prevmatch.guides.thresholds import reaches
from prevmatch.loop import build_loaders, views_of
from prevmatch.methods import AUGSEG, MEAN_TEACHER, method_of, step
from prevmatch.mixing import StrongView, adaptive_cutmix, certainty, clipped_boxes
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.students import build_student
from prevmatch.views import INTENSITIES, Strong, Views, draw_intensities, strong_augment

B, C, SIDE, TAU = 6, 3, 48, 0.5


def beta_boxes(a, b):
    """Edges of the boxes of a batch, one size for all, as AugSeg's rand_bbox has them, drawn as ours are."""
    share = float(torch.distributions.Beta(torch.tensor(a), torch.tensor(b)).sample())
    cut = int(SIDE * np.sqrt(1 - share))
    centres = [SIDE // 8 + (torch.rand(B, 1) * (SIDE - SIDE // 8)).floor().long()[:, 0] for _ in range(2)]
    return [
        [(max(0, int(c) - cut // 2), min(SIDE, int(c) + cut // 2)) for c in line]
        for line in zip(*centres, strict=True)
    ]


def transcribed(strong, labelled, mask, label, confidence, valid, logits):
    """What the student sees and is told; ZhenZHAO/AugSeg's cut_mix_label_adaptive in other words."""
    other, chance = torch.randperm(B), torch.rand(B)
    given, shown = beta_boxes(8.0, 2.0), beta_boxes(4.0, 4.0)
    own = [strong, label, confidence, valid]
    known = mask != 255
    lent = [labelled, mask.where(known, 0), known.double(), known]
    copies = [part.clone() for part in own]
    for i in range(B):
        p = logits[i].softmax(0)
        entropy = -(p * p.log()).sum(0) / math.log(C)
        if chance[i] > (p.max(0).values * (1 - entropy)).mean():
            (top, bottom), (left, right) = given[i]
            for copy, source in zip(copies, lent, strict=True):
                copy[i][..., top:bottom, left:right] = source[other[i]][..., top:bottom, left:right]
    mixed = [part.clone() for part in own]
    for i in range(B):
        (top, bottom), (left, right) = shown[i]
        for part, source in zip(mixed, copies, strict=True):
            part[i][..., top:bottom, left:right] = source[other[i]][..., top:bottom, left:right]
    return mixed


def test_every_value_of_a_step_is_that_of_the_plain_transcription():
    torch.manual_seed(0)
    network = Segmenter(SegmenterConfig(encoder="test_vit", num_classes=C)).double().train()
    with torch.no_grad():  # else no image says anything
        [*network.decoder.parameters()][-2].mul_(20)
    guide = Teacher(
        name="teacher", accepts=partial(reaches, TAU), frozen=Frozen(network, torch.float64, side=SIDE),
        average=Average(network, 0.999),
    )  # fmt: skip
    for seed in range(3):
        labelled, weak, strong = torch.randn(3, B, 3, SIDE, SIDE, dtype=torch.float64)
        mask = torch.randint(0, C, (B, SIDE, SIDE))
        mask[:, :4] = 255
        valid = torch.ones(B, SIDE, SIDE, dtype=torch.bool)
        valid[1, 30:] = False
        nothing = torch.zeros(B, SIDE, SIDE, dtype=torch.bool)
        views = Views(
            labelled, mask, weak, valid, (StrongView(torch.cat([strong, labelled]), nothing, torch.arange(B, 2 * B)),)
        )
        torch.manual_seed(seed)
        found = step(
            [SimpleNamespace(prepared=network, guides=[guide])],
            views,
            method=AUGSEG,
            supervised_loss=prevmatch.losses.cross_entropy,
        ).losses
        torch.manual_seed(seed)
        with torch.no_grad():
            small = network(weak, enlarged=False)
            confidence, label = interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=True).softmax(1).max(1)
        image, target, sure, real = transcribed(strong, labelled, mask, label, confidence, valid, small)
        predicted = network(torch.cat([labelled, image]))
        supervised = ce(predicted[:B], mask, ignore_index=255)
        unsupervised = (ce(predicted[B:], target, reduction="none") * ((sure >= TAU) & real)).sum() / real.sum()
        torch.testing.assert_close(found["teacher/strong1"].double(), unsupervised, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(found["loss"].double(), supervised + unsupervised, rtol=1e-7, atol=1e-7)


def test_certainty_is_the_mean_of_confidence_times_what_the_entropy_lacks():
    torch.manual_seed(0)
    logits = 2 * torch.randn(3, C, 4, 5)
    for image, found in zip(logits, certainty(logits), strict=True):
        pixels = image.softmax(0).flatten(1).T.tolist()
        values = [max(p) * (1 + sum(x * math.log(x) for x in p) / math.log(C)) for p in pixels]
        assert float(found) == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_sure_images_are_left_and_unsure_ones_are_anchored_with_masks():
    torch.manual_seed(0)
    pool = torch.cat([torch.zeros(64, 3, 40, 40), torch.ones(64, 3, 40, 40)])
    view = StrongView(pool, torch.zeros(64, 40, 40, dtype=torch.bool), torch.arange(64, 128))
    sure, unsure = torch.zeros(64, C, 10, 10), torch.zeros(64, C, 10, 10)
    sure[:, 0] = 100
    torch.testing.assert_close(certainty(sure), torch.ones(64))
    torch.testing.assert_close(certainty(unsure), torch.zeros(64), rtol=0, atol=1e-6)
    assert not adaptive_cutmix(view, [], [sure])[0].any()
    shares = [float(adaptive_cutmix(view, [], [unsure])[0].mean()) for _ in range(100)]
    # Of a labelled box (mean share .2) what a mean box (.5) shows; both are cut at the border.
    assert 0.02 < np.mean(shares) < 0.1


def test_boxes_have_one_size_and_lie_where_augseg_has_them():
    torch.manual_seed(0)
    for shares, mean in (((8.0, 2.0), 0.2), ((4.0, 4.0), 0.5)):
        largest = [clipped_boxes(50, 80, 64, shares, torch.device("cpu")).sum((1, 2)).max() for _ in range(300)]
        assert float(np.mean(largest)) / (80 * 64) == pytest.approx(mean, abs=0.06)
    centres = torch.cat([clipped_boxes(50, 80, 64, (60.0, 1.0), torch.device("cpu")) for _ in range(20)])
    rows = centres.any(2).double().argmax(1)[centres.any((1, 2))]
    assert rows.min() >= 0
    assert rows.max() > 70


def test_intensities_are_one_to_three_of_eleven_within_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [draw_intensities(rng).jitter for _ in range(3000)]
    assert {len(changes) for changes in drawn} == {1, 2, 3}
    names = [name for changes in drawn for name, _ in changes]
    counts = [names.count(name) for name in INTENSITIES]
    assert len(counts) == 11
    assert max(counts) / min(counts) < 1.3
    for changes in drawn:
        for name, amount in changes:
            low, high = INTENSITIES[name]
            assert low <= amount <= high


PIL = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, int(threshold)),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
}


@pytest.mark.parametrize(("name", "amounts"), [
    ("identity", [0]), ("autocontrast", [0]), ("equalize", [0]), ("posterize", [4.3, 7.9]), ("solarize", [1, 90, 255]),
    ("sharpness", [0.05, 0.6]), ("brightness", [0.3]), ("saturation", [0.2]),
])  # fmt: skip
def test_changes_are_those_of_pillow(name, amounts):
    rng = np.random.default_rng(1)
    pixels = (rng.integers(0, 130, (20, 24, 3)) + 40).astype(np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].repeat(len(amounts) + 1, 1, 1, 1)
    found = strong_augment(images, [*(Strong(((name, float(a)),), False, None) for a in amounts), None])
    assert torch.equal(found[-1], images[-1].float())
    for image, amount in zip(found, amounts, strict=False):
        expected = np.asarray(PIL[name](Image.fromarray(pixels), amount)).astype(float)
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= 2, (name, amount)  # Pillow rounds twice


def test_labelled_images_are_lent_as_they_are_and_the_average_is_a_copy_for_an_epoch(tiny_config, tiny_data):
    from accelerate import Accelerator

    config = dataclasses.replace(tiny_config, method="augseg")
    method, accelerator = method_of(config), Accelerator()
    student = build_student(config, method, tiny_data, accelerator)
    loader = build_loaders(config, tiny_data, method, accelerator)[0]
    assert student.versions.average.idle == len(loader) == 3
    assert student.scored is student.versions.average.network
    views = views_of(next(iter(loader)), method, student, config)
    [view] = views.strong
    assert torch.equal(view.pool[2:], views.labelled)
    assert not view.box.any()


def test_it_is_mean_teacher_with_its_own_augmentations():
    plain = {
        field: getattr(MEAN_TEACHER, field) for field in ("mixing", "partner", "draw", "box", "ema_decay", "score")
    }
    assert dataclasses.replace(AUGSEG, **plain, ema_idle_epochs=0) == MEAN_TEACHER


def test_it_pastes_labelled_images_whatever_partner_a_recipe_has_for_the_other_methods():
    assert method_of(dataclasses.replace(TINY, method="augseg", partner="reversed")) == AUGSEG
