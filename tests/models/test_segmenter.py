import contextlib
import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError, ConfigError, DataError
from prevmatch.models.segmenter import Segmenter

CONFIG = SegmenterConfig(
    encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3),
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), class_names=("a", "b", "c"), palette=((9, 9, 9),) * 3,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Segmenter(CONFIG).eval()


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("size", [(32, 32), (65, 97), (33, 40)])
def test_logits_have_the_images_size(model, size):
    assert model(torch.randn(2, 3, *size)).shape == (2, 3, *size)


def test_saved_and_loaded_model_gives_equal_logits(model, saved):
    loaded = Segmenter.from_pretrained(saved)
    images = torch.randn(1, 3, 40, 33)
    assert loaded.config == model.config == dataclasses.replace(CONFIG, decoder_kind="deeplab")
    assert not loaded.training
    assert torch.equal(loaded(images), model(images))


def test_perturbed_features_pass_the_decoder_with_the_clean_ones(model):
    images, seen = torch.randn(2, 3, 32, 32), []

    def beside_zeros(features):
        seen.extend(feature.shape for feature in features)
        return [torch.cat([feature, 0 * feature]) for feature in features]

    clean, perturbed = model.train()(images, beside_zeros).chunk(2)
    assert [shape[0] for shape in seen] == [2, 2]
    assert clean.shape == perturbed.shape == (2, model.config.num_classes, 32, 32)
    assert not torch.equal(clean, perturbed)
    assert model.decoder.reduce[1].num_batches_tracked == 1
    torch.testing.assert_close(model(images, lambda features: features), model(images))


def test_every_parameter_gets_a_gradient_also_under_autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            model(torch.randn(2, 3, 32, 32))
        model.train()(torch.randn(2, 3, 32, 32)).float().square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.encoder.conv1[0].weight.grad.abs().sum() > 0


def test_normalisation_uses_the_models_statistics(model):
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert model.normalize(images).unique().item() == pytest.approx(2.0)


def change(saved, **tensors):
    state = load_file(saved / "model.safetensors") | tensors
    save_file({k: v for k, v in state.items() if v is not None}, saved / "model.safetensors")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"decoder.classifier.bias": None}, "decoder.classifier.bias is missing"),
        ({"decoder.surplus": torch.zeros(1)}, "decoder.surplus is unknown"),
        ({"decoder.classifier.bias": torch.zeros(7)}, r"has shape \(7,\) where \(3,\) is needed"),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved, tensors, message):
    change(saved, **tensors)
    with pytest.raises(CheckpointError, match=message):
        Segmenter.from_pretrained(saved)


def test_wrong_class_count_is_refused(saved):
    settings = json.loads((saved / "config.json").read_text())
    settings |= {"num_classes": 5, "class_names": [], "palette": []}
    (saved / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="check class count"):
        Segmenter.from_pretrained(saved)


@pytest.mark.parametrize("content", ["{", "[]", '{"hidden_size": 768}', '{"encoder": "test_resnet"}'])
def test_configuration_of_something_else_is_refused(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Segmenter.from_pretrained(saved)


def test_missing_and_torn_files_are_refused(saved, tmp_path):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        Segmenter.from_pretrained(saved)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing; save or download"):
        Segmenter.from_pretrained(saved)
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        Segmenter.from_pretrained(saved)
    for name in (tmp_path / "nowhere", "nobody/nothing"):
        with pytest.raises(CheckpointError, match="neither a folder nor a reachable Hub repository"):
            Segmenter.from_pretrained(name)


def test_pickles_are_never_loaded(model, saved):
    (saved / "model.safetensors").unlink()
    torch.save(model.state_dict(), saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin beside it is a pickle"):
        Segmenter.from_pretrained(saved)
    (saved / "pytorch_model.bin").rename(saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a pickle under another name"):
        Segmenter.from_pretrained(saved)
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        Segmenter.from_pretrained(saved / "model.safetensors")


def test_configuration_tells_other_libraries_the_classes_and_old_files_still_load(saved):
    settings = json.loads((saved / "config.json").read_text())
    assert settings["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert settings["label2id"] == {"a": 0, "b": 1, "c": 2}
    assert Segmenter.from_pretrained(saved).config.id2label == {0: "a", 1: "b", 2: "c"}
    assert json.loads((saved / "preprocessor_config.json").read_text())["image_mean"] == [0.5, 0.5, 0.5]
    (saved / "preprocessor_config.json").unlink()
    new = ("id2label", "label2id", "model_type", "architectures", "decoder_kind")
    old = {k: v for k, v in settings.items() if k not in new}
    (saved / "config.json").write_text(json.dumps(old))
    assert Segmenter.from_pretrained(saved).config == dataclasses.replace(CONFIG, decoder_kind="deeplab")
    (saved / "config.json").write_text(json.dumps(settings | {"id2label": {"0": "x", "1": "b", "2": "c"}}))
    with pytest.raises(CheckpointError, match="differently in class_names and id2label"):
        Segmenter.from_pretrained(saved)
    (saved / "config.json").write_text(json.dumps({"model_type": "segformer", "depths": [2]}))
    with pytest.raises(CheckpointError, match="is the configuration of a segformer model"):
        Segmenter.from_pretrained(saved)


def test_dtype_and_device_are_honoured(model, saved):
    half = Segmenter.from_pretrained(saved, dtype=torch.bfloat16, device="cpu")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    image = np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    assert (half.predict(image) == model.predict(image)).mean() > 0.9
    with pytest.raises(ConfigError, match="device nonsense"):
        Segmenter.from_pretrained(saved, device="nonsense")


def test_saving_leaves_everything_else_in_the_folder(model, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text("ref")
    (tmp_path / "README.md").write_text("all of it")
    for _ in range(2):
        model.save_pretrained(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".git", "README.md", "config.json", "model.safetensors", "preprocessor_config.json"
        ]  # fmt: skip
        assert (tmp_path / ".git/HEAD").read_text() == "ref"
        assert (tmp_path / "README.md").read_text() == "all of it"
    assert torch.equal(Segmenter.from_pretrained(tmp_path).decoder.classifier.bias, model.decoder.classifier.bias)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"encoder": "resnet50", "epochs": 3}', '{"model_type": "bert"}', None]
)
def test_saving_never_replaces_files_of_something_else(model, tmp_path, content):
    name = "config.json" if content else "model.safetensors"
    (tmp_path / name).write_text(content or "weights of another library")
    with pytest.raises(CheckpointError, match=rf"{name} is of something else; choose another folder"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / name).read_text() == (content or "weights of another library")
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_that_cannot_be_made_is_named(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file" / "model")


def test_here_and_linked_folders_can_be_saved_into(model, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "disk")
    for folder in (".", tmp_path / "link"):
        for _ in range(2):
            model.save_pretrained(folder)
            assert len(list((tmp_path / "disk").iterdir())) == 3
            Segmenter.from_pretrained(folder)
    assert (tmp_path / "link").is_symlink()


@pytest.fixture
def other():
    """A model of other class names and weights."""
    torch.manual_seed(1)
    return Segmenter(dataclasses.replace(CONFIG, class_names=("x", "y", "z"))).eval()


def same_model(one, two):
    return one.config == two.config and torch.equal(one.decoder.classifier.weight, two.decoder.classifier.weight)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_save_that_ends_at_any_rename_leaves_the_earlier_model_or_the_new_one(
    model, other, saved, monkeypatch, how, at
):
    """A kill is an exception that nothing handles and after which no rename or removal happens."""
    renames, real = [], {name: getattr(os, name) for name in ("rename", "replace")}
    removals = {name: getattr(os, name) for name in ("unlink", "rmdir", "remove")}
    ended = []

    def failing(name):
        def rename(*args, **kwargs):
            renames.append(name)
            if ended or len(renames) == at + 1:
                ended.extend(["killed"] * (how == "killed"))
                raise KeyboardInterrupt if how == "killed" else OSError(5, "Input/output error")
            return real[name](*args, **kwargs)

        return rename

    def removing(name):
        return lambda *args, **kwargs: None if ended else removals[name](*args, **kwargs)

    for name in real:
        monkeypatch.setattr(os, name, failing(name))
    for name in removals:
        monkeypatch.setattr(os, name, removing(name))
    with contextlib.suppress(KeyboardInterrupt, CheckpointError):
        other.save_pretrained(saved)
        assert at >= 4  # the folder of all files, and each of the three
    monkeypatch.undo()
    loaded = Segmenter.from_pretrained(saved)
    assert same_model(loaded, model) or same_model(loaded, other)
    if how == "refused" and at < 2:
        assert same_model(loaded, model)
    other.save_pretrained(saved)
    assert same_model(Segmenter.from_pretrained(saved), other)
    assert len(list(saved.iterdir())) == 3


def test_interrupted_save_leaves_the_earlier_model(model, saved, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = (saved / "model.safetensors").read_bytes()
    monkeypatch.setattr("prevmatch.models.saved.save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space"):
        model.save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_unpublished_backbone_and_foreign_pth_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="resnet50, resnet101, xception"):
        Segmenter.from_published(tmp_path / "x.pth", backbone="vgg", num_classes=21)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="does not fit this model"):
        Segmenter.from_published(tmp_path / "x.pth", backbone="resnet50", num_classes=21)


def test_predict_takes_paths_pictures_arrays_and_lists(model, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    ids = model.predict(picture)
    assert ids.shape == (21, 34)
    assert ids.dtype == np.uint8
    many = model.predict([array, tmp_path / "a.png", str(tmp_path / "a.png")])
    assert all(np.array_equal(ids, other) for other in many)
    assert model.predict(picture.convert("L")).shape == (21, 34)


def test_predict_restores_train_mode_and_names_what_it_cannot_read(model, tmp_path):
    model.train()
    model.predict(np.zeros((8, 8, 3), dtype=np.uint8))
    assert model.training
    Image.effect_noise((64, 64), 50).save(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:500])
    with pytest.raises(DataError, match=r"torn\.png cannot be read as an image"):
        model.predict(tmp_path / "torn.png")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"a\.txt cannot be read as an image"):
        model.predict(tmp_path / "a.txt")


def test_model_with_an_image_size_answers_at_the_images_own_size(tmp_path):
    torch.manual_seed(0)
    sized = Segmenter(dataclasses.replace(CONFIG, image_size=48)).eval()
    sized.save_pretrained(tmp_path / "sized")
    sized = Segmenter.from_pretrained(tmp_path / "sized")
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).resize((135, 180), Image.BICUBIC)
    small = large.resize((36, 48), Image.Resampling.BILINEAR)
    ids, at_48 = sized.predict(large), sized.predict(small)
    assert ids.shape == (180, 135)
    assert at_48.shape == (48, 36)
    enlarged = np.asarray(Image.fromarray(at_48).resize((135, 180), Image.NEAREST))
    assert (enlarged == ids).mean() > 0.9  # the same regions, with smoother borders
