"""Strong views against PIL and torchvision: equal parameters image by image, drawn parameters by distribution."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as pil

from prevmatch.views import (
    Strong,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    box_map,
    build_views,
    draw_box,
    draw_strong,
    gaussian_blur,
    paste,
    strong_augment,
)


@pytest.fixture(scope="module")
def pictures():
    """Three different pictures with edges, gradients, noise and saturated colours: PIL images and uint8 tensor."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :40]
    arrays = []
    for i in range(3):
        smooth = np.stack([x * 5, y * 4, (x + y) * 2 + 40 * i], axis=-1)
        blocks = rng.integers(0, 256, (6, 5, 3)).repeat(8, 0).repeat(8, 1)
        arrays.append(np.where((x // 10 % 2 == i % 2)[..., None], smooth, blocks).clip(0, 255).astype(np.uint8))
    return [Image.fromarray(a) for a in arrays], torch.stack([torch.from_numpy(a).permute(2, 0, 1) for a in arrays])


def tensors(images):
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image in images])


def difference(actual, images):
    return (actual - tensors(images)).abs()


def amounts(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adjust_brightness, pil.adjust_brightness),
        (adjust_contrast, pil.adjust_contrast),
        (adjust_saturation, pil.adjust_saturation),
    ],
)
def test_blending_changes_equal_pils_up_to_its_rounding(pictures, ours, theirs):
    images, batch = pictures
    factors = (0.5, 1.13, 1.5)
    expected = [theirs(image, factor) for image, factor in zip(images, factors, strict=True)]
    assert difference(ours(batch.float(), amounts(*factors)), expected).max() < 1.6


def test_hue_equals_pils_up_to_its_8_bit_colour_circle(pictures):
    images, batch = pictures
    turns = (-0.25, 0.1, 0.25)
    expected = [pil.adjust_hue(image, turn) for image, turn in zip(images, turns, strict=True)]
    error = difference(adjust_hue(batch.float(), amounts(*turns)), expected)
    assert error.mean() < 1
    # PIL truncates both hue and turn to 256 steps, each of which moves a channel by up to 6 levels.
    assert error.max() < 15


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.3, 2.0])
def test_blur_equals_pils_box_approximation_closely(pictures, sigma):
    images, batch = pictures
    expected = [image.filter(ImageFilter.GaussianBlur(sigma)) for image in images]
    error = difference(gaussian_blur(batch.float(), amounts(sigma, sigma, sigma)), expected)
    assert error.mean() < 1.5


def test_blur_uses_each_images_own_sigma(pictures):
    _, batch = pictures
    together = gaussian_blur(batch.float(), amounts(0.1, 1.0, 2.0))
    for i, sigma in enumerate((0.1, 1.0, 2.0)):
        torch.testing.assert_close(together[i], gaussian_blur(batch[i : i + 1].float(), amounts(sigma))[0])


def test_whole_chain_equals_pil_image_by_image(pictures):
    images, batch = pictures
    parameters = [
        Strong((("hue", 0.1), ("brightness", 0.8), ("saturation", 1.3), ("contrast", 0.6)), False, 1.0),
        Strong(None, True, None),
        Strong((("contrast", 1.4), ("saturation", 0.5), ("hue", -0.2), ("brightness", 1.2)), False, None),
    ]

    def reference(image, parameter):
        for name, amount in parameter.jitter or ():
            image = getattr(pil, f"adjust_{name}")(image, amount)
        if parameter.grey:
            image = pil.to_grayscale(image, num_output_channels=3)
        return image if parameter.blur is None else image.filter(ImageFilter.GaussianBlur(parameter.blur))

    expected = [reference(image, parameter) for image, parameter in zip(images, parameters, strict=True)]
    error = difference(strong_augment(batch, parameters), expected)
    assert error.mean(dim=(1, 2, 3)).max() < 2


def test_augmentation_leaves_its_input_alone_and_the_range_whole(pictures):
    _, batch = pictures
    before = batch.clone()
    rng = np.random.default_rng(1)
    for _ in range(20):
        out = strong_augment(batch, [draw_strong(rng) for _ in batch])
        assert out.isfinite().all()
        assert out.min() >= -1e-3
        assert out.max() <= 255.001
    assert torch.equal(batch, before)


def test_parameters_follow_the_published_distributions():
    rng = np.random.default_rng(0)
    drawn = [draw_strong(rng) for _ in range(4000)]
    jittered = [dict(s.jitter) for s in drawn if s.jitter]
    reference = [ColorJitter.get_params((0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (-0.25, 0.25)) for _ in range(4000)]
    assert len(jittered) / len(drawn) == pytest.approx(0.8, abs=0.03)
    assert np.mean([s.grey for s in drawn]) == pytest.approx(0.2, abs=0.03)
    for i, name in enumerate(("brightness", "contrast", "saturation", "hue"), start=1):
        ours, theirs = np.array([j[name] for j in jittered]), np.array([r[i] for r in reference])
        quantiles = np.linspace(0, 1, 11)
        spread = 0.5 if name == "hue" else 1.0
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.05 * spread)
    first = [s.jitter[0][0] for s in drawn if s.jitter]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert first.count(name) / len(first) == pytest.approx(0.25, abs=0.03)
    blurs = np.array([s.blur for s in drawn if s.blur is not None])
    assert len(blurs) / len(drawn) == pytest.approx(0.5, abs=0.03)
    assert (blurs.min(), blurs.mean(), blurs.max()) == pytest.approx((0.1, 1.05, 2.0), abs=0.05)


def test_boxes_follow_the_published_distribution():
    rng = np.random.default_rng(0)
    size = 400
    boxes = [draw_box(rng, size, size) for _ in range(4000)]
    drawn = np.array([box for box in boxes if box is not None])
    assert len(drawn) / len(boxes) == pytest.approx(0.5, abs=0.03)
    top, left, bottom, right = drawn.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= size
    assert right.max() <= size
    # The share is drawn once and kept, whatever position is redrawn: uniform on [.02, .4].
    area = (bottom - top) * (right - left) / size**2
    np.testing.assert_allclose(
        np.quantile(area, [0.02, 0.25, 0.5, 0.75, 0.98]), [0.0276, 0.115, 0.21, 0.305, 0.392], atol=0.02
    )
    aspect = (bottom - top) / (right - left)
    assert aspect.min() > 0.28
    assert aspect.max() < 3.5


def test_box_map_marks_exactly_the_box():
    mask = box_map([(1, 2, 3, 5), None], 4, 6, torch.device("cpu"))
    assert mask[0].nonzero().tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert not mask[1].any()


def test_paste_takes_images_and_maps():
    box = torch.tensor([[[True, False]]])
    image = paste(box, torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2))
    assert image[0, :, 0].tolist() == [[1, 0]] * 3
    assert paste(box, torch.tensor([[[7, 7]]]), torch.tensor([[[9, 9]]])).tolist() == [[[7, 9]]]


def make_batch(keys, size=24):
    rng = np.random.default_rng(0)

    def images():
        return torch.from_numpy(rng.integers(0, 256, (len(keys), 3, size, size), dtype=np.uint8))

    maps = torch.ones(len(keys), size, size, dtype=torch.bool)
    return {
        "keys": keys, "labelled": images(), "mask": maps.byte(), "weak": images(), "valid": maps,
        "partner": images(), "partner_valid": maps,
    }  # fmt: skip


def test_views_of_a_sample_do_not_depend_on_its_batch():
    batch = make_batch([(0, 3), (0, 4), (1, 0), (1, 1)])
    whole = build_views(batch, strong_views=2, seed=5, normalize=lambda x: x.float())
    half = {k: v[2:] for k, v in batch.items()}
    part = build_views(half, strong_views=2, seed=5, normalize=lambda x: x.float())
    for i in range(2):
        torch.testing.assert_close(whole.strong[i][2:], part.strong[i], atol=1e-3, rtol=0)
        assert torch.equal(whole.boxes[i][2:], part.boxes[i])


def test_views_are_equal_for_equal_seeds_and_differ_between_seeds_and_views():
    batch = make_batch([(0, i) for i in range(6)])
    first, again, other = (
        build_views(batch, strong_views=2, seed=s, normalize=lambda x: x.float()) for s in (1, 1, 2)
    )
    assert torch.equal(first.strong[0], again.strong[0])
    assert not torch.equal(first.strong[0], other.strong[0])
    assert not torch.equal(first.strong[0], first.strong[1])


def test_inside_its_box_a_strong_view_shows_the_partner():
    batch = make_batch([(0, i) for i in range(8)])
    batch["weak"].fill_(10)
    batch["partner"].fill_(250)
    views = build_views(batch, strong_views=1, seed=0, normalize=lambda x: x.float())
    box = views.boxes[0]
    assert box.any()
    brightness = views.strong[0].mean(1)
    assert brightness[box].min() > 100
    assert brightness[~box].max() < 40


def test_partners_that_no_box_shows_are_left_out():
    batch = make_batch([(0, i) for i in range(20)])
    views = build_views(batch, strong_views=2, seed=0, normalize=lambda x: x.float())
    shown = (views.boxes[0] | views.boxes[1]).flatten(1).any(1)
    assert 0 < shown.sum() < 20
    assert views.partner_rows.tolist() == shown.nonzero().flatten().tolist()
    assert torch.equal(views.partner, batch["partner"][shown].float())
    assert torch.equal(views.partner_valid, batch["partner_valid"][shown])


def test_at_least_one_partner_stays():
    batch = make_batch([(0, 0)])
    for seed in range(20):
        views = build_views(batch, strong_views=1, seed=seed, normalize=lambda x: x.float())
        assert len(views.partner) == 1
        if not views.boxes[0].any():
            return
    pytest.fail("no seed without a box")


def test_a_batch_without_partners_is_its_own_rolled_by_one():
    batch = make_batch([(0, i) for i in range(6)])
    colours = torch.arange(6, dtype=torch.uint8) * 40 + 20
    batch["weak"] = colours.view(6, 1, 1, 1).expand_as(batch["weak"]).contiguous()
    del batch["partner"], batch["partner_valid"]
    views = build_views(batch, strong_views=2, seed=3, normalize=lambda x: x.float())
    assert views.partner is None
    for strong, box in zip(views.strong, views.boxes, strict=True):
        assert box.any()
        outside = torch.stack([image[:, ~inside].mean(1) for image, inside in zip(strong, box, strict=True)])
        for i in range(6):
            if box[i].any():  # flat images stay flat, so a box has the colour that its neighbour has outside
                torch.testing.assert_close(strong[i][:, box[i]].mean(1), outside[i - 1], atol=0.5, rtol=0)


def test_supervised_batches_need_no_unlabelled_images():
    batch = {k: v for k, v in make_batch([(0, 0)]).items() if k in ("keys", "labelled", "mask")}
    views = build_views(batch, strong_views=0, seed=0, normalize=lambda x: x.float())
    assert views.strong == ()
    assert views.mask.dtype == torch.int64
