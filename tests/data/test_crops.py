"""The weak view's geometry against plain PIL: scale the whole image, pad, crop, flip."""

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.crops import Crop, crop_image, crop_mask, crop_valid, draw_crop


def picture(width, height, mode="RGB"):
    rng = np.random.default_rng(0)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(rng.integers(0, 200, shape, dtype=np.uint8))


def reference(image, crop, resampling, fill):
    """In two passes, as the published pipeline does it."""
    scaled = image.resize((crop.width, crop.height), resampling)
    canvas = Image.new(image.mode, (max(crop.width, crop.size), max(crop.height, crop.size)), fill)
    canvas.paste(scaled, (0, 0))
    part = canvas.crop((crop.left, crop.top, crop.left + crop.size, crop.top + crop.size))
    return np.asarray(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flip else part)


@pytest.mark.parametrize("size", [(60, 44), (44, 60), (200, 31), (33, 33), (7, 90)])
def test_one_resampling_equals_scaling_the_whole_image_first(size):
    rng = np.random.default_rng(1)
    image, mask = picture(*size), picture(*size, mode="L")
    for _ in range(25):
        crop = draw_crop(rng, *size, 33)
        expected = reference(image, crop, Image.Resampling.BILINEAR, 0).transpose(2, 0, 1)
        error = np.abs(crop_image(image, crop).astype(int) - expected)
        # On white noise, the worst case, PIL's single-precision box and its rounding between two passes show.
        assert error.max() <= 3
        assert error.mean() < 0.5
        assert np.array_equal(crop_mask(mask, crop), reference(mask, crop, Image.Resampling.NEAREST, 255))
        assert np.array_equal(
            crop_valid(crop), reference(Image.new("L", size, 1), crop, Image.Resampling.NEAREST, 0) == 1
        )


def test_padding_is_black_in_images_ignored_in_masks_and_invalid():
    crop = Crop(size=8, width=5, height=6, left=0, top=0, flip=True)
    image, mask, valid = picture(10, 12), picture(10, 12, "L"), crop_valid(crop)
    assert valid.sum() == 30
    assert valid[:6, 3:].all()
    assert (crop_image(image, crop)[:, ~valid] == 0).all()
    assert (crop_mask(mask, crop)[~valid] == 255).all()


def test_drawn_scales_and_flips_follow_the_published_distribution():
    rng = np.random.default_rng(0)
    crops = [draw_crop(rng, 100, 75, 33) for _ in range(4000)]
    long = np.array([c.width for c in crops])
    assert long.min() == 50
    assert long.max() == 200
    np.testing.assert_allclose(np.quantile(long, [0.25, 0.5, 0.75]), [87.5, 125, 162.5], atol=5)
    assert np.mean([c.flip for c in crops]) == pytest.approx(0.5, abs=0.03)
    assert all(abs(c.height - c.width * 0.75) <= 0.5 for c in crops)
    assert all(0 <= c.left <= max(c.width - 33, 0) and 0 <= c.top <= max(c.height - 33, 0) for c in crops)
    large = [c.left / (c.width - 33) for c in crops if c.width > 150]
    np.testing.assert_allclose(np.quantile(large, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_image_of_one_pixel_fills_a_crop_with_padding():
    crop = draw_crop(np.random.default_rng(0), 1, 1, 5, (1.0, 1.0))
    assert crop_image(picture(1, 1), crop).shape == (3, 5, 5)
    assert crop_valid(crop).sum() == 1
