"""Cosine coefficients as a ResNet's input."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from prevmatch.config import SegmenterConfig
from prevmatch.errors import ConfigError
from prevmatch.models.dct import DCTInput
from prevmatch.models.encoder import build_encoder, encoder_statistics
from prevmatch.models.segmenter import Segmenter


def coefficient(block, u, v):
    """One value of the 8×8 transform by its definition, as JPEG's standard has it (ITU T.81, A.3.3)."""
    scale = [math.sqrt(0.5) if f == 0 else 1.0 for f in (u, v)]
    total = 0.0
    for y in range(8):
        for x in range(8):
            waves = math.cos((2 * y + 1) * u * math.pi / 16) * math.cos((2 * x + 1) * v * math.pi / 16)
            total += float(block[y, x]) * waves
    return scale[0] * scale[1] * total / 4


def test_coefficients_are_those_of_jpegs_definition():
    torch.manual_seed(0)
    layer, image = DCTInput(64).double(), torch.rand(1, 3, 24, 32, dtype=torch.float64)
    layer.norm = torch.nn.Identity()
    found = layer(image)[0]
    assert found.shape == (64, 6, 8)
    red, green, blue = interpolate(image, scale_factor=2, mode="bilinear")[0]
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    blues, reds = (blue - luminance) / 1.772, (red - luminance) / 1.402
    order = sorted(((u, v) for u in range(8) for v in range(8)), key=lambda f: (sum(f), f))
    for plane, first, count in ((luminance, 0, 44), (blues, 44, 10), (reds, 54, 10)):
        for place in (0, 1, 7, count - 1):
            block = plane[16:24, 40:48]
            assert float(found[first + place, 2, 5]) == pytest.approx(
                coefficient(block, *order[place]) if place < count else 0, abs=2e-5
            )


def test_it_takes_the_place_of_the_stem_and_leaves_the_features_as_they_are():
    plain, channels = build_encoder("resnet50")
    encoder, same = build_encoder("resnet50.dct")
    assert same == channels
    images = torch.randn(2, 3, 65, 97)
    assert [f.shape for f in encoder(images)] == [f.shape for f in plain(images)]
    assert encoder_statistics("test_resnet.dct") == encoder_statistics("test_resnet")


@pytest.mark.parametrize("name", ["resnet50s.dct", "mobilenetv2_100.dct", "test_vit.dct"])
def test_encoders_without_such_a_stem_are_refused(name):
    with pytest.raises(ConfigError, match=f"encoder '{name}' cannot read cosine coefficients; choose resnet50.dct"):
        build_encoder(name)


def test_a_saved_model_reads_coefficients_again(tmp_path):
    torch.manual_seed(0)
    config = SegmenterConfig(encoder="test_resnet.dct", num_classes=3, decoder_channels=8, low_level_channels=4)
    model, images = Segmenter(config), torch.randn(2, 3, 66, 51)
    model(images)  # in train mode: statistics worth keeping
    model.eval().save_pretrained(tmp_path / "model")
    again = Segmenter.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
