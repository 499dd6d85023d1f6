"""A frozen model from outside as one more guide: SemiVL's step, written out once more, and what models it may be."""

import dataclasses
import json
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch.nn.functional import cross_entropy as ce
from torch.nn.functional import interpolate

import prevmatch.losses
from prevmatch import train
from prevmatch.config import SegmenterConfig
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Versions
from prevmatch.guides.itself import itself
from prevmatch.guides.outside import Outside, class_texts, outside
from prevmatch.guides.previous import previous
from prevmatch.guides.thresholds import reaches
from prevmatch.methods import FIXMATCH, SEMIVL, method_of, step
from prevmatch.mixing import StrongView
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.fitting import fit
from prevmatch.run.state import TrainState
from prevmatch.views import Views

B, C, SIDE, TAU = 3, 4, 48, 0.4
CONFIG = SegmenterConfig(
    encoder="test_resnet", num_classes=C, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3)
)


def both_copies(features):
    """In the place of chance: half of the features' values."""
    return [torch.cat([feature, 0.5 * feature]) for feature in features]


def test_every_value_of_a_step_is_that_of_the_plain_transcription():
    """λ .07, its own threshold, a mean and spread that the outside model does not share."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    network = Segmenter(config).double().train()
    with torch.no_grad():
        network.decoder.classifier.weight.mul_(20)
    copy = deepcopy(network)
    versions = Versions(0, network, Frozen(deepcopy(network).float(), torch.float64, side=SIDE))
    seen = []

    def scores(images):
        seen.append(images)
        return images[:, [0, 1, 2, 0], ::4, ::4] / 40

    guides = [
        itself(dataclasses.replace(TINY, confidence_threshold=TAU), versions),
        Outside(
            name="outside", accepts=lambda ids, sure: reaches(0.5, ids, sure), weight=0.0, first=0.1, epochs=10,
            versions=versions, scores=scores,
        ),
    ]  # fmt: skip
    guides[1].begin(TrainState(epoch=3))
    assert guides[1].weight == pytest.approx(0.07)
    x, weak, s1, s2 = torch.randn(4, B, 3, SIDE, SIDE, dtype=torch.float64)
    mask = torch.randint(0, C, (B, SIDE, SIDE))
    valid, boxes = torch.ones(B, SIDE, SIDE, dtype=torch.bool), torch.zeros(2, B, SIDE, SIDE, dtype=torch.bool)
    valid[1, 40:], boxes[0, 0, 5:30, 9:40], boxes[1, 2, 20:, :11] = False, True, True
    donor = torch.arange(B).roll(1)
    views = Views(x, mask, weak, valid, tuple(StrongView(s, b, donor) for s, b in zip((s1, s2), boxes, strict=True)))
    first, second = SEMIVL.forwards
    method = dataclasses.replace(SEMIVL, forwards=(dataclasses.replace(first, perturb=both_copies), second))
    found = step(
        [SimpleNamespace(prepared=network, guides=guides)], views, method=method,
        supervised_loss=prevmatch.losses.cross_entropy,
    ).losses  # fmt: skip

    pixels = 255 * (weak * copy.pixel_std + copy.pixel_mean)
    torch.testing.assert_close(seen[0], pixels)
    features = copy.encoder(torch.cat([x, weak]))
    logits = copy.decoder(*both_copies(features))
    labelled, own, _, fp = interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=True).chunk(4)
    strong = []
    for source, box in zip((s1, s2), boxes, strict=True):
        strong.append(source.clone())
        for i in range(B):
            strong[-1][i][:, box[i]] = source[i - 1][:, box[i]]
    p1, p2 = copy(torch.cat(strong)).chunk(2)
    small = pixels[:, [0, 1, 2, 0], ::4, ::4] / 40
    told = interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=True)
    total = ce(labelled, mask, ignore_index=255)
    for scores_of_guide, threshold, share in ((own.detach(), TAU, 1.0), (told, 0.5, 0.07)):
        confidence, label = scores_of_guide.softmax(1).max(1)
        for prediction, box, weight in ((p1, boxes[0], 0.25), (p2, boxes[1], 0.25), (fp, None, 0.5)):
            target, sure, real = label.clone(), confidence.clone(), valid.clone()
            for i in range(B if box is not None else 0):
                for part, source in ((target, label), (sure, confidence), (real, valid)):
                    part[i][box[i]] = source[i - 1][box[i]]
            accepted = (sure >= threshold) & real
            assert 0.05 < accepted.double().mean() < 0.999
            term = (ce(prediction, target, reduction="none") * accepted).sum() / real.sum()
            total = total + share * weight * term
    torch.testing.assert_close(found["loss"].double(), total / 2.07, rtol=1e-7, atol=1e-7)


def test_with_no_weight_it_is_unimatch(tiny_config, tiny_data, model, one_thread):
    curves = []
    for method, changes in (("unimatch", {}), ("semivl", {"outside_model": str(model), "outside_weight": 0.0})):
        folder = tiny_config.output_dir.with_name(method)
        train(dataclasses.replace(tiny_config, method=method, output_dir=folder, **changes), tiny_data)
        curves.append((folder / "metrics.jsonl").read_text())
    assert curves[0] == curves[1]


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(3)
    Segmenter(dataclasses.replace(CONFIG, num_classes=5)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_run_is_guided_by_any_segmenter(tiny_config, tiny_data, model):
    config = dataclasses.replace(
        tiny_config, method="unimatch_v2", outside_model=str(model), outside_threshold=0.0, previous_guidance=True
    )
    train(config, tiny_data)
    lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert {"outside/strong2", "outside/mask_ratio", "previous/strong1"} <= set().union(*lines)


def test_a_run_is_guided_by_clip(tiny_config, tiny_data, clip_folder):
    config = dataclasses.replace(tiny_config, method="semivl", outside_model=str(clip_folder), outside_threshold=0.0)
    train(config, tiny_data)
    lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert all(line["outside/mask_ratio"] == 1 for line in lines if "outside/mask_ratio" in line)
    assert {"outside/strong1", "outside/feature"} <= set().union(*lines)


def test_its_answer_is_that_of_the_model_as_it_is_used(model):
    network = Segmenter(dataclasses.replace(CONFIG, num_classes=5, mean=(0.4, 0.5, 0.6)))
    config = dataclasses.replace(TINY, outside_model=str(model))
    guide = outside(config, Versions(0, network, Frozen(network, side=SIDE)))
    pixels = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    expected = Segmenter.from_pretrained(model)
    with torch.no_grad():
        torch.testing.assert_close(
            guide.label(network.normalize(pixels)), expected(expected.normalize(pixels), enlarged=False),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


def test_any_method_may_have_it():
    config = dataclasses.replace(TINY, outside_model="somewhere")
    assert method_of(dataclasses.replace(config, method="semivl")) == SEMIVL
    assert method_of(dataclasses.replace(config, method="unimatch")) == SEMIVL
    supervised = method_of(dataclasses.replace(config, method="supervised", previous_guidance=True))
    assert supervised == dataclasses.replace(FIXMATCH, guides=(previous, outside))


def test_semivl_takes_clip_where_nothing_is_named(tiny_data, model):
    config = dataclasses.replace(TINY, method="semivl")
    assert fit(config, tiny_data, 1).outside_model == "openai/clip-vit-base-patch16"
    assert fit(dataclasses.replace(config, outside_model=str(model)), tiny_data, 1).outside_model == str(model)
    assert fit(TINY, tiny_data, 1).outside_model is None


def test_a_model_of_other_classes_is_refused(model):
    network = Segmenter(CONFIG)
    config = dataclasses.replace(TINY, outside_model=str(model))
    with pytest.raises(ConfigError, match=r"model knows 5 classes, the data has 4 classes; choose another"):
        outside(config, Versions(0, network, Frozen(network, side=SIDE)))


def test_texts_of_classes_come_from_names_or_a_file(tmp_path):
    named = dataclasses.replace(CONFIG, class_names=("cat", "dog, puppy", "sky", "wall"))
    assert class_texts(None, named) == [["cat"], ["dog", "puppy"], ["sky"], ["wall"]]
    file = tmp_path / "texts.txt"
    file.write_text("a\nb, c\nd\ne , f,\n")
    assert class_texts(str(file), CONFIG) == [["a"], ["b", "c"], ["d"], ["e", "f"]]
    file.write_text("a\n\nb\nc\n")
    for given in (str(file), None):  # a class without a word, and no names at all
        with pytest.raises(ConfigError, match="there are 4 classes; give a file with a line for each"):
            class_texts(given, CONFIG)
    with pytest.raises(ConfigError, match=r"outside_texts .*none\.txt cannot be read"):
        class_texts(str(tmp_path / "none.txt"), CONFIG)
