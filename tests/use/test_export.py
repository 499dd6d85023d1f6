"""Exported models answer like the model at sizes and batches they were not exported with, or are not written."""

import dataclasses

import pytest
import torch
from models.test_segmenter import CONFIG

import prevmatch.use.export
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.segmenter import Segmenter
from prevmatch.use.export import export


def model_with(encoder, **changes):
    torch.manual_seed(0)
    return Segmenter(dataclasses.replace(CONFIG, encoder=encoder, **changes)).eval()


@pytest.fixture(scope="module")
def model():
    return model_with("test_resnet")


def expected(model, images):
    with torch.no_grad():
        return model(model.normalize(images))


@pytest.mark.parametrize(
    ("format", "encoder"),
    [("torchscript", "test_resnet"), ("torch_export", "test_efficientnet"), ("onnx", "test_resnet"),
     *(pytest.param(*case, marks=pytest.mark.variation)
       for case in (("torchscript", "mobilenetv2_035"), ("torch_export", "mobilenetv2_035"),
                    ("onnx", "mobilenetv2_035"), ("torchscript", "test_vit"), ("onnx", "test_vit"))),
     pytest.param("torch_export", "test_vit", marks=pytest.mark.soak)],
)  # fmt: skip
def test_exported_model_answers_like_the_model_at_any_size(tmp_path, format, encoder):
    model = model_with(encoder)
    if format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
        pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    path = tmp_path / "deep" / "model.file"
    assert export(model, format, path) < 1e-3
    assert [p.name for p in path.parent.iterdir()] == ["model.file"]
    images = torch.rand(4, 3, 71, 90) * 255
    if format == "onnx":
        found = torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0])
    elif format == "torchscript":
        found = torch.jit.load(path)(images)
    else:
        with open(path, "rb") as file:
            found = torch.export.load(file).module()(images)
    torch.testing.assert_close(found, expected(model, images), atol=1e-4, rtol=1e-4)


def test_model_that_answers_differently_is_not_written(model, tmp_path, monkeypatch):
    def wrong(network, images, path):
        path.touch()
        return lambda images: network(images) + 0.5

    def bound_to_one_size(network, images, path):
        return lambda images: network(images[..., :96, :])

    def impossible(network, images, path):
        raise RuntimeError("no such operator\nand a long story")

    for exporter, message in (
        (wrong, r"logits are off by 0\.5"),
        (bound_to_one_size, "gives"),
        (impossible, r"cannot be exported as onnx \(RuntimeError: no such operator\)"),
    ):
        monkeypatch.setitem(prevmatch.use.export._EXPORTERS, "onnx", exporter)
        with pytest.raises(CheckpointError, match=message):
            export(model, "onnx", tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())


def test_missing_package_and_folder_that_cannot_be_written_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnx needs onnxruntime; pip install 'prevmatch\[export\]'"):
        export(model, "onnx", tmp_path / "model.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        export(model, "torchscript", tmp_path / "file" / "model.pt")


def test_file_that_is_there_is_not_replaced_unasked(model, tmp_path):
    (tmp_path / "photo.jpg").write_text("holiday")
    with pytest.raises(ConfigError, match=r"photo\.jpg is there already; .* --overwrite"):
        export(model, "torchscript", tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").read_text() == "holiday"
    export(model, "torchscript", tmp_path / "photo.jpg", overwrite=True)
    assert torch.jit.load(tmp_path / "photo.jpg")
