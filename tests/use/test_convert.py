"""Released checkpoints → folders that from_pretrained loads, held to the golden logits."""

import numpy as np
import pytest
import torch
from golden_files import SMALL, full_folder, released_file
from safetensors.torch import load_file

from prevmatch.errors import CheckpointError
from prevmatch.models.encoder import build_encoder
from prevmatch.models.segmenter import Segmenter
from prevmatch.use.convert import convert


@pytest.mark.parametrize(
    ("backbone", "classes", "prefix"),
    [("resnet50", 21, ""), ("resnet50", 21, "module."), ("resnet101", 21, "module."), ("xception", 81, "")],
)
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
