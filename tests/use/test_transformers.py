"""Saved folders in transformers: what its pipeline answers is what `segments` answers."""

import dataclasses

import numpy as np
import pytest
import torch
from models.test_segmenter import CONFIG

pytest.importorskip("transformers", reason="transformers is not installed (pip install -e '.[transformers]')")

from test_predict import noise
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

import prevmatch.transformers  # noqa: F401
from prevmatch.models.segmenter import Segmenter


@pytest.mark.parametrize(
    "changes",
    [{}, {"eval_window": 30}, {"image_size": 96}, {"class_names": (), "palette": ()}, {"encoder": "test_vit"}],
)
def test_pipeline_equals_segments(tmp_path, changes, caplog):
    torch.manual_seed(0)
    Segmenter(dataclasses.replace(CONFIG, **changes)).eval().save_pretrained(tmp_path / "model")
    picture = noise(9, 7).resize((72, 56))
    expected = Segmenter.from_pretrained(tmp_path / "model").segments(picture)
    found = pipeline("image-segmentation", model=str(tmp_path / "model"))(picture)
    assert [segment["label"] for segment in found] == [segment["label"] for segment in expected]
    for ours, theirs in zip(expected, found, strict=True):
        assert ours.keys() == theirs.keys()
        assert (theirs["score"], theirs["mask"].mode, theirs["mask"].size) == (None, "L", (72, 56))
        same = (np.asarray(ours["mask"]) == np.asarray(theirs["mask"])).mean()
        assert same == 1 or (changes.get("image_size") and same > 0.97)  # resized by other code
    assert "not supported" not in caplog.text


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
def test_processor_normalises_as_the_model_does(tmp_path, encoder):
    model = Segmenter(dataclasses.replace(CONFIG, encoder=encoder))
    model.save_pretrained(tmp_path / "model")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "model")
    theirs = processor(images=noise(33, 20), return_tensors="pt")["pixel_values"]
    ours = model.normalize(torch.from_numpy(np.array(noise(33, 20))).permute(2, 0, 1)[None])
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_folder_saved_by_transformers_is_a_segmenters_and_trains(tmp_path):
    model = Segmenter(CONFIG).eval()
    model.save_pretrained(tmp_path / "model")
    theirs = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "model")
    labels = torch.randint(0, 3, (2, 32, 32))
    labels[:, :5] = 255
    theirs.train()(pixel_values=torch.randn(2, 3, 32, 32), labels=labels).loss.backward()
    assert all(parameter.grad is not None for parameter in theirs.parameters())
    theirs.save_pretrained(tmp_path / "again")
    assert Segmenter.from_pretrained(tmp_path / "again").config == model.config
