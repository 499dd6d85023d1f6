import pytest
import timm
import torch
from safetensors.torch import save_file

from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.encoder import build_encoder, encoder_statistics


@pytest.mark.parametrize(
    "name", ["resnet50s", "xception65", "mobilenetv2_100", "tf_efficientnet_lite0", "convnext_atto", "regnety_002"]
)
def test_features_have_strides_4_and_16(name):
    encoder, channels = build_encoder(name)
    low, high = encoder.eval()(torch.randn(1, 3, 65, 97))
    assert (low.shape[1], high.shape[1]) == channels
    assert low.shape[-2:] == (17, 25) or low.shape[-2:] == (16, 24)
    assert high.shape[-2:] == (5, 7) or high.shape[-2:] == (4, 6)


def test_weights_come_from_a_file(tmp_path):
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder, _ = build_encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


def test_file_of_another_network_is_refused(tmp_path):
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"w\.safetensors lacks .* of encoder 'test_resnet'"):
        build_encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))


def test_damaged_and_missing_files_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        build_encoder("test_resnet", weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match="is not a file"):
        build_encoder("test_resnet", weights=str(tmp_path / "none.pth"))


def test_pickled_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        build_encoder("test_resnet", weights=str(tmp_path / "w.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("resnet50x", "resnet50s"), ("vit_small_patch14_dinov2.lvd142", "vit_small_patch14_dinov2.lvd142m")],
)
def test_unknown_encoder_or_tag_gets_suggestions(wrong, right):
    with pytest.raises(ConfigError, match=right):
        build_encoder(wrong)
    assert encoder_statistics(wrong)[0] == (0.485, 0.456, 0.406)  # whoever asks first


def test_encoder_without_the_strides_is_refused():
    with pytest.raises(ConfigError, match="beit_base_patch16_224"):
        build_encoder("beit_base_patch16_224")


def test_hub_that_cannot_be_reached_names_the_way_out(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(CheckpointError, match="--encoder_weights FILE"):
        build_encoder("resnet18", weights="timm")


def test_normalisation_is_the_encoders_own():
    assert encoder_statistics("tf_efficientnet_lite0")[0] == (0.5, 0.5, 0.5)
    assert encoder_statistics("resnet50s")[0] == (0.485, 0.456, 0.406)
