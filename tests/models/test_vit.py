"""Plain ViTs as encoders, with the DPT and the linear decoder; a tiny random one stands in for DINOv2."""

import dataclasses

import pytest
import timm
import torch
from conftest import TINY
from safetensors.torch import save_file

from prevmatch import train
from prevmatch.config import SegmenterConfig
from prevmatch.errors import ConfigError
from prevmatch.methods import with_dropped_channels
from prevmatch.models.encoder import build_encoder, patch_size
from prevmatch.models.frozen import Frozen, build_skeleton, frozen_logits, tensors_of
from prevmatch.models.segmenter import Segmenter
from prevmatch.models.vit import nearest_multiple, tapped_blocks

CONFIG = SegmenterConfig(encoder="test_vit", num_classes=3)
ENCODERS = ["test_vit", "vit_tiny_patch16_dinov3_qkvb"]  # learned positions, rotary ones


@pytest.fixture(params=ENCODERS)
def model(request):
    torch.manual_seed(0)
    return Segmenter(dataclasses.replace(CONFIG, encoder=request.param)).eval()


@pytest.mark.parametrize(
    ("name", "patch"),
    [("vit_small_patch14_dinov2.lvd142m", 14), ("vit_small_patch16_dinov3_qkvb.lvd1689m", 16),
     ("vit_base_patch16_siglip_224", 16), ("vit_base_patch16_224.mae", 16), ("vit_base_patch14_reg4_dinov2", 14),
     ("resnet50s", 1), ("convnext_tiny.dinov3_lvd1689m", 1), ("swin_tiny_patch4_window7_224", 1),
     ("xception65.published", 1), ("no such encoder", 1)],
)  # fmt: skip
def test_patch_tells_plain_vits_from_other_encoders(name, patch):
    assert patch_size(name) == patch


# Encoders as timm counts them without a classifier; decoders by hand from the published widths.
@pytest.mark.parametrize(
    ("size", "width", "projections", "taps"),
    [("small", 64, (48, 96, 192, 384), [2, 5, 8, 11]), ("base", 128, (96, 192, 384, 768), [2, 5, 8, 11]),
     ("large", 256, (256, 512, 1024, 1024), [4, 11, 17, 23])],
)  # fmt: skip
def test_published_sizes(size, width, projections, taps):
    name = f"vit_{size}_patch14_dinov2.lvd142m"
    with torch.device("meta"):
        model = Segmenter(SegmenterConfig(encoder=name, num_classes=21))
        body = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    assert model.encoder.taps == taps
    assert {f"body.{key}" for key in body.state_dict()} == set(model.encoder.state_dict())
    shapes = {key: tuple(tensor.shape) for key, tensor in model.decoder.state_dict().items()}
    assert [shapes[f"levels.{i}.0.weight"] for i in range(4)] == [(p, body.embed_dim, 1, 1) for p in projections]
    assert [shapes[f"levels.{i}.2.weight"] for i in range(4)] == [(width, p, 3, 3) for p in projections]
    first, second, _, last = projections
    resized = (16 * first**2 + first) + (4 * second**2 + second) + (9 * last**2 + last)
    levels = sum(p * (body.embed_dim + 1) + 9 * width * p for p in projections)
    unit = 2 * (9 * width**2 + width)
    fusions = 7 * unit + 4 * (width**2 + width)
    classifier = 9 * width**2 + width + 21 * (width + 1)
    assert sum(p.numel() for p in model.decoder.parameters()) == resized + levels + fusions + classifier


def test_blocks_are_tapped_evenly():
    assert [tapped_blocks(depth) for depth in (6, 12, 24, 40)] == [
        (0, 2, 3, 5), (2, 5, 8, 11), (4, 11, 17, 23), (9, 19, 29, 39)
    ]  # fmt: skip


@pytest.mark.parametrize(("side", "multiple"), [(1, 42), (42, 42), (48, 42), (49, 56), (513, 518)])
def test_nearest_multiple_of_a_patch(side, multiple):
    assert nearest_multiple(side, 14) == multiple


@pytest.mark.parametrize("size", [(32, 48), (65, 97), (5, 40)])
def test_logits_have_the_images_size_whatever_the_patch(model, size):
    assert model(torch.randn(2, 3, *size)).shape == (2, 3, *size)


def test_whole_patches_are_seen_as_they_are(model):
    images = torch.randn(1, 3, 64, 48)
    seen = []
    model.encoder.body.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    features = model.encoder(images)
    assert torch.equal(seen[0], images)
    assert [tuple(feature.shape[-2:]) for feature in features] == [(4, 3)] * 4
    assert model.decoder(*features).shape[-2:] == (32, 24)


def test_every_parameter_gets_a_gradient_with_channels_dropped_and_blocks_computed_twice(model):
    model.train()
    images, gradients = torch.randn(2, 3, 32, 32), []
    for twice in (False, True):
        if twice:
            model.checkpoint_encoder()
        torch.manual_seed(1)
        model.zero_grad()
        model(images, lambda features: with_dropped_channels(features, probability=0.5)).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_blocks_with_batchnorm_are_not_computed_twice():
    with pytest.raises(ConfigError, match="gradient_checkpointing would move the BatchNorm statistics"):
        Segmenter(dataclasses.replace(CONFIG, encoder="test_resnet")).checkpoint_encoder()
    Segmenter(dataclasses.replace(CONFIG, encoder="test_convnext")).checkpoint_encoder()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_form_answers_as_the_network(model, dtype):
    images = torch.randn(2, 3, 40, 48)
    frozen = Frozen(
        model, dtype, side=32, context=lambda: torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    )
    assert not frozen.foldings
    expected = frozen_logits(build_skeleton(model.config), tensors_of(model), images)
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(frozen.answer(model, images), expected, rtol=0, atol=tolerance)


def test_frozen_encoder_stays_in_eval_mode_without_gradients(model):
    model.freeze_encoder()
    model.train()
    assert model.decoder.training
    assert not model.encoder.training
    model(torch.randn(2, 3, 32, 32)).mean().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize("encoder", ["test_vit", "test_resnet"])
def test_linear_decoder_maps_the_deepest_feature(encoder):
    model = Segmenter(dataclasses.replace(CONFIG, encoder=encoder, decoder_kind="linear")).eval()
    images = torch.randn(1, 3, 48, 64)
    assert model(images, enlarged=False).shape == (1, 3, 3, 4)
    assert model(images).shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("encoder", "kind", "message"),
    [("test_vit", "deeplab", "features at one stride only; choose dpt"),
     ("test_resnet", "dpt", "is no plain ViT; choose deeplab"), ("test_vit", "unet", "must be of auto, deeplab")],
)  # fmt: skip
def test_decoders_that_cannot_read_the_encoder_are_refused(encoder, kind, message):
    with pytest.raises(ConfigError, match=message):
        Segmenter(dataclasses.replace(CONFIG, encoder=encoder, decoder_kind=kind))


def test_saved_model_remembers_its_decoder(tmp_path):
    for name, kind in (("test_vit", "auto"), ("test_vit", "linear"), ("test_resnet", "auto")):
        model = Segmenter(dataclasses.replace(CONFIG, encoder=name, decoder_kind=kind)).eval()
        model.save_pretrained(tmp_path / "model")
        loaded = Segmenter.from_pretrained(tmp_path / "model")
        assert loaded.config == model.config
        assert loaded.config.decoder_kind == {"test_resnet": "deeplab"}.get(name, "dpt" if kind == "auto" else kind)
        images = torch.randn(1, 3, 33, 40)
        assert torch.equal(loaded(images), model(images))


def test_weights_come_from_a_file(tmp_path):
    model = timm.create_model("test_vit")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder, _ = build_encoder("test_vit", weights=str(tmp_path / "w.safetensors"))
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name.removeprefix("body.")]) for name, tensor in encoder.state_dict().items())


VIT = dataclasses.replace(TINY, encoder="test_vit", crop_size=48, optimizer="adamw", lr=1e-3, method="prevmatch")


@pytest.mark.parametrize("changes", [{}, {"freeze_encoder": True, "score": "ema"}, {"gradient_checkpointing": True}])
def test_a_run_trains_keeps_and_loads_a_vit(tiny_data, tmp_path, changes):
    config = dataclasses.replace(VIT, **changes, output_dir=tmp_path / "run", seed=3)
    result = train(config, tiny_data)
    assert 0 <= result.best_miou <= 100
    model = Segmenter.from_pretrained(tmp_path / "run" / "best")
    torch.manual_seed(3)
    moved = [not torch.equal(p, q) for p, q in zip(model.encoder.parameters(), new_encoder(config), strict=True)]
    assert not any(moved) if config.freeze_encoder else all(moved)


def new_encoder(config):
    """The encoder's parameters as a run with this seed begins."""
    from accelerate.utils import set_seed

    set_seed(config.seed)
    return build_encoder(config.encoder)[0].parameters()


@pytest.mark.parametrize(
    ("name", "side", "remedy"),
    [("crop_size", 49, "48 or 64"), ("eval_window", 70, "64 or 80"), ("crop_size", 9, "48")],
)
def test_sides_that_cut_patches_are_refused_before_training(tiny_data, tmp_path, name, side, remedy):
    with pytest.raises(ConfigError, match=f"{name} is {side} but must be a multiple of 16.*set {remedy}"):
        train(dataclasses.replace(VIT, **{name: side}, output_dir=tmp_path / "run"), tiny_data)
    assert not (tmp_path / "run").exists()
