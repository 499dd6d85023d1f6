"""Released checkpoints → folders that from_pretrained loads, held to the golden logits."""

import numpy as np
import pytest
import timm
import torch
from golden_files import SMALL, full_folder, released_file
from safetensors.torch import load_file
from torch import nn

from prevmatch.errors import CheckpointError
from prevmatch.models.encoder import build_encoder
from prevmatch.models.published import backbone_of, published_config, segmenter_state
from prevmatch.models.segmenter import Segmenter
from prevmatch.use.convert import convert


@pytest.mark.parametrize(
    ("backbone", "classes", "prefix"),
    [("xception", 81, ""),
     *(pytest.param(*case, marks=pytest.mark.variation)
       for case in (("resnet50", 21, ""), ("resnet50", 21, "module."), ("resnet101", 21, "module.")))],
)  # fmt: skip
def test_converted_folder_gives_the_golden_logits(backbone, classes, prefix, tmp_path):
    folder = full_folder()
    said = convert(released_file(folder, backbone, tmp_path, prefix=prefix), tmp_path / "model")
    model = Segmenter.from_pretrained(tmp_path / "model")
    assert said.startswith(backbone)
    assert len(model.config.class_names) == len(model.config.palette) == classes
    golden = np.load(folder / f"{backbone}_eval.npz")
    with torch.no_grad():
        logits = model(torch.from_numpy(golden["image"]))
    expected = torch.from_numpy(golden["logits"])
    assert (logits - expected).abs().max() <= 1e-4 * expected.std()


def test_cityscapes_model_knows_its_sliding_window(tmp_path):
    convert(released_file(SMALL, "resnet50", tmp_path, num_classes=19), tmp_path / "model")
    config = Segmenter.from_pretrained(tmp_path / "model").config
    assert config.eval_window == 801
    assert config.class_names[0] == "road"


def test_bare_xception_becomes_encoder_weights(tmp_path):
    path = released_file(full_folder(), "xception", tmp_path)
    state = torch.load(path, weights_only=True)["model"]
    bare = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    torch.save(bare, tmp_path / "xception.pth")
    said = convert(tmp_path / "xception.pth", tmp_path / "out")
    assert "--encoder xception65.published --encoder_weights" in said
    encoder, _ = build_encoder("xception65.published", weights=str(tmp_path / "out/encoder.safetensors"))
    given = load_file(tmp_path / "out/encoder.safetensors")
    own = dict(encoder.named_parameters())
    assert set(own) <= set(given)
    assert all(torch.equal(own[name], given[name]) for name in own)


def test_pickles_and_other_files_are_refused_and_leave_nothing(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    for name, content in {"evil.pth": pickle.dumps(Evil()), "torn.pth": b"PK\x03\x04", "empty.pth": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
            convert(tmp_path / name, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"none\.pth does not exist"):
        convert(tmp_path / "none.pth", tmp_path / "out")
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="none of the published backbones"):
        convert(tmp_path / "other.pth", tmp_path / "out")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out").exists()


def test_class_count_of_no_published_data_set_is_refused(tmp_path):
    path = released_file(SMALL, "resnet50", tmp_path, num_classes=7)
    with pytest.raises(CheckpointError, match="has 7 classes"):
        convert(path, tmp_path / "out")


class Fusion(nn.Module):
    """A part of UniMatch V2's DPT head under its public names, straight on."""

    def __init__(self, width):
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        for unit in ("resConfUnit1", "resConfUnit2"):
            convolutions = {name: nn.Conv2d(width, width, 3, padding=1) for name in ("conv1", "conv2")}
            setattr(self, unit, nn.ModuleDict(convolutions))

    def forward(self, size, level, coarser=None):
        def residual(unit, x):
            return x + unit["conv2"](unit["conv1"](x.relu()).relu())

        x = level if coarser is None else coarser + residual(self.resConfUnit1, level)
        x = residual(self.resConfUnit2, x)
        return self.out_conv(nn.functional.interpolate(x, size, mode="bilinear", align_corners=True))


class Head(nn.Module):
    """UniMatch V2's DPT head, likewise."""

    def __init__(self, classes, embedding, width, widths):
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(embedding, w, 1) for w in widths)
        self.resize_layers = nn.ModuleList([
            nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
            nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
            nn.Identity(), nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
        ])  # fmt: skip
        self.scratch = nn.Module()
        for i, w in enumerate(widths, start=1):
            setattr(self.scratch, f"layer{i}_rn", nn.Conv2d(w, width, 3, padding=1, bias=False))
            setattr(self.scratch, f"refinenet{i}", Fusion(width))
        self.scratch.output_conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )

    def forward(self, features):
        scratch = self.scratch
        one, two, three, four = (
            getattr(scratch, f"layer{i + 1}_rn")(self.resize_layers[i](self.projects[i](feature)))
            for i, feature in enumerate(features)
        )
        x = scratch.refinenet4(three.shape[-2:], four)
        x = scratch.refinenet3(two.shape[-2:], three, x)
        x = scratch.refinenet2(one.shape[-2:], two, x)
        x = scratch.refinenet1([2 * side for side in one.shape[-2:]], one, x)
        return scratch.output_conv(x)


def unimatch_v2(size, classes):
    """(timm's DINOv2, the head under its public names, all tensors of a checkpoint)."""
    body = timm.create_model(f"vit_{size}_patch14_dinov2", num_classes=0, dynamic_img_size=True).eval()
    width, widths = {"small": (64, (48, 96, 192, 384)), "base": (128, (96, 192, 384, 768)),
                     "large": (256, (256, 512, 1024, 1024))}[size]  # fmt: skip
    head = Head(classes, body.embed_dim, width, widths).eval()
    backbone = body.state_dict() | {"mask_token": torch.zeros(1, body.embed_dim)}  # timm has facebook's names
    named = {f"backbone.{k}": v for k, v in backbone.items()} | {f"head.{k}": v for k, v in head.state_dict().items()}
    return body, head, {f"module.{name}": tensor for name, tensor in named.items()}


def test_unimatch_v2_checkpoint_answers_as_its_own_arithmetic(tmp_path):
    torch.manual_seed(0)
    body, head, state = unimatch_v2("small", 19)
    student = dict.fromkeys(state, torch.zeros(0))  # its scores are those of its average
    torch.save(
        {"model": student, "model_ema": state, "epoch": 3, "previous_best": np.float64(80.6)}, tmp_path / "v2.pth"
    )
    said = convert(tmp_path / "v2.pth", tmp_path / "model")
    assert said == f"dinov2_small for cityscapes: {tmp_path / 'model'}"
    model = Segmenter.from_pretrained(tmp_path / "model")
    assert (model.config.encoder, model.config.eval_window) == ("vit_small_patch14_dinov2.lvd142m", 798)
    images = torch.randn(2, 3, 56, 84)
    with torch.no_grad():
        features = body.forward_intermediates(images, indices=[2, 5, 8, 11], norm=True, intermediates_only=True)
        expected = head(features)
        torch.testing.assert_close(model(images, enlarged=False), expected, rtol=1e-4, atol=1e-5)
    # Every tensor arrives, apart from those that the network never reads.
    given = [tensor.sum().item() for name, tensor in state.items()
             if "mask_token" not in name and "refinenet4.resConfUnit1" not in name]  # fmt: skip
    assert sorted(given) == sorted(tensor.sum().item() for tensor in model.state_dict().values())


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_sizes_of_unimatch_v2_checkpoints(size):
    with torch.device("meta"):
        state = {name.removeprefix("module."): t for name, t in unimatch_v2(size, 21)[2].items()}
        backbone = backbone_of(state)
        assert backbone == f"dinov2_{size}"
        model = Segmenter(published_config(backbone, 21))
    named = segmenter_state(state, backbone)
    assert {k: v.shape for k, v in named.items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_bare_dinov2_becomes_encoder_weights(tmp_path):
    torch.manual_seed(0)
    body = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    torch.save(body.state_dict() | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    said = convert(tmp_path / "dinov2_vits14_pretrain.pth", tmp_path / "out")
    weights = tmp_path / "out/encoder.safetensors"
    assert said.endswith(f"--encoder vit_small_patch14_dinov2.lvd142m --encoder_weights {weights}")
    encoder, _ = build_encoder("vit_small_patch14_dinov2.lvd142m", weights=str(weights))
    assert all(
        torch.equal(t, body.state_dict()[name.removeprefix("body.")]) for name, t in encoder.state_dict().items()
    )
    weights.write_text("mine")
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors is there already"):
        convert(tmp_path / "dinov2_vits14_pretrain.pth", tmp_path / "out")
    assert weights.read_text() == "mine"
