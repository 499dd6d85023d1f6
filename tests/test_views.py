"""Strong views against PIL and torchvision: equal parameters image by image, drawn parameters by distribution."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as pil

from prevmatch.mixing import Labels, cutmix, paste
from prevmatch.views import (
    Strong,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    build_views,
    draw_strong,
    gaussian_blur,
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


def make_batch(keys, size=24):
    rng = np.random.default_rng(0)

    def images():
        return torch.from_numpy(rng.integers(0, 256, (len(keys), 3, size, size), dtype=np.uint8))

    maps = torch.ones(len(keys), size, size, dtype=torch.bool)
    return {
        "keys": keys, "labelled": images(), "mask": maps.byte(), "weak": images(), "valid": maps,
        "partner": images(), "partner_valid": maps,
    }  # fmt: skip


def identity(images):
    return images.float()


def test_views_of_a_sample_do_not_depend_on_its_batch():
    batch = make_batch([(0, 3), (0, 4), (1, 0), (1, 1)])
    whole = build_views(batch, strong_views=2, seed=5, normalize=identity)
    part = build_views({k: v[2:] for k, v in batch.items()}, strong_views=2, seed=5, normalize=identity)
    for one, two in zip(whole.strong, part.strong, strict=True):
        torch.testing.assert_close(shown(one)[2:], shown(two), atol=1e-3, rtol=0)
        assert torch.equal(one.box[2:], two.box)


def test_views_are_equal_for_equal_seeds_and_differ_between_seeds_and_views():
    batch = make_batch([(0, i) for i in range(6)])
    first, again, other = (build_views(batch, strong_views=2, seed=s, normalize=identity) for s in (1, 1, 2))
    assert torch.equal(shown(first.strong[0]), shown(again.strong[0]))
    assert not torch.equal(shown(first.strong[0]), shown(other.strong[0]))
    assert not torch.equal(shown(first.strong[0]), shown(first.strong[1]))


def shown(view):
    return paste(view.box, view.pool, view.donor)


def colours(count):
    """Flat images, each of its own brightness, which stay flat under every change."""
    levels = torch.arange(count, dtype=torch.uint8) * (200 // count) + 20
    return levels.view(count, 1, 1, 1).expand(count, 3, 24, 24).contiguous()


def test_inside_its_box_a_strong_view_shows_the_partner():
    batch = make_batch([(0, i) for i in range(8)])
    batch["weak"].fill_(10)
    batch["partner"].fill_(250)
    [view] = build_views(batch, strong_views=1, seed=0, normalize=identity).strong
    assert view.box.any()
    brightness = shown(view).mean(1)
    assert brightness[view.box].min() > 100
    assert brightness[~view.box].max() < 40


def test_partners_that_no_box_shows_are_left_out_of_everything():
    batch = make_batch([(0, i) for i in range(20)])
    views = build_views(batch, strong_views=2, seed=0, normalize=identity)
    rows = (views.strong[0].box | views.strong[1].box).flatten(1).any(1)
    assert 0 < rows.sum() < 20
    assert torch.equal(views.weak, torch.cat([batch["weak"], batch["partner"][rows]]).float())
    assert torch.equal(views.valid, torch.cat([batch["valid"], batch["partner_valid"][rows]]))
    for view in views.strong:
        assert len(view.pool) == len(views.weak)
        assert torch.equal(view.donor[rows], 20 + torch.arange(int(rows.sum())))


def test_no_partner_at_all_is_no_obstacle():
    batch = make_batch([(0, 0)])
    for seed in range(20):
        views = build_views(batch, strong_views=1, seed=seed, normalize=identity)
        if not views.strong[0].box.any():
            assert len(views.weak) == len(views.strong[0].pool) == 1
            assert torch.equal(shown(views.strong[0]), views.strong[0].pool)
            return
    pytest.fail("no seed without a box")


@pytest.mark.parametrize(("partner", "donors"), [("batch", [5, 0, 1, 2, 3, 4]), ("reversed", [5, 4, 3, 2, 1, 0])])
def test_a_batch_can_lend_its_own_images(partner, donors):
    batch = make_batch([(0, i) for i in range(6)]) | {"weak": colours(6)}
    del batch["partner"], batch["partner_valid"]
    views = build_views(batch, strong_views=2, seed=3, normalize=identity, partner=partner)
    assert len(views.weak) == 6
    for view in views.strong:
        assert view.donor.tolist() == donors
        assert view.box.any()
        for i, image in enumerate(shown(view)):
            if view.box[i].any():  # a box has the colour that its donor has in the same view
                torch.testing.assert_close(
                    image[:, view.box[i]].mean(1), view.pool[donors[i]].mean((1, 2)), atol=0.5, rtol=0
                )


def test_labelled_images_lend_their_pixels_and_masks():
    batch = make_batch([(0, i) for i in range(6)]) | {"labelled": colours(6)}
    batch["weak"].fill_(0)
    batch["mask"] = torch.full((6, 24, 24), 2, dtype=torch.uint8)
    batch["mask"][:, :12] = 255
    views = build_views(batch, strong_views=2, seed=3, normalize=identity, partner="labelled")
    assert len(views.weak) == 6
    said = Labels(torch.zeros(6, 24, 24, dtype=torch.int64), torch.full((6, 24, 24), 0.4), views.valid)
    pool = views.pool(said)
    for view in views.strong:
        ids, confidence, valid = cutmix(view, [pool], [])[1][0]
        assert shown(view)[view.box.unsqueeze(1).expand(-1, 3, -1, -1)].min() > 5  # nothing of the black images
        below = view.box.clone()
        below[:, :12] = False
        assert below.any()
        assert (ids[below] == 2).all()
        assert (confidence[below] == 1).all()
        assert valid[below].all()
        assert not valid[view.box & ~below].any()  # where the mask says nothing
        assert (confidence[~view.box] == 0.4).all()
        assert (ids < 255).all()


def test_guests_are_changed_only_where_a_box_shows_them():
    batch = make_batch([(0, i) for i in range(12)])
    views = build_views(batch, strong_views=2, seed=0, normalize=identity)
    guests = [views.strong[0].donor[i].item() for i in range(12) if views.strong[0].donor[i] >= 12]
    for view in views.strong:
        plain = [row for row in guests if torch.equal(view.pool[row], views.weak[row])]
        hidden = [int(d) for d, box in zip(view.donor, view.box, strict=True) if d >= 12 and not box.any()]
        assert set(hidden) <= set(plain)
        assert len(plain) < len(guests)


def test_supervised_batches_need_no_unlabelled_images():
    batch = {k: v for k, v in make_batch([(0, 0)]).items() if k in ("keys", "labelled", "mask")}
    views = build_views(batch, strong_views=0, seed=0, normalize=identity)
    assert views.strong == ()
    assert views.mask.dtype == torch.int64
