"""Settings that follow from the data."""

import dataclasses

import pytest
from conftest import divide
from PIL import Image

from prevmatch.config import TrainConfig, full_name
from prevmatch.data.loader import TripleSampler
from prevmatch.data.sources import Source, TrainingData, table
from prevmatch.errors import ConfigError, DataError
from prevmatch.methods import METHODS
from prevmatch.run.fitting import fit, require_unlabelled, spared, steps_of

OPEN = TrainConfig(image_size=0, crop_size=0, epochs=0, lr=0, bank_interval=0, batch_size=4)


@pytest.fixture
def data_of(tmp_path):
    """Training data with `count` images of one size, all labelled, and the same unlabelled too or none."""

    def make(size, count=10, *, unlabelled=True):
        Image.new("RGB", size).save(tmp_path / "a.png")
        cells = [{"path": str(tmp_path / "a.png"), "bytes": None}] * count
        rows = table([str(i) for i in range(count)], cells, cells)
        source = Source(train=rows, val=rows, class_names=("a",), palette=((0, 0, 0),))
        return TrainingData(source=source, labelled=rows, unlabelled=rows.select(range(count if unlabelled else 0)))

    return make


@pytest.mark.parametrize(
    ("size", "crop", "image_size"),
    [((500, 375), 337, None), ((480, 360), 321, None), ((1500, 1200), 513, None), ((4000, 3000), 513, 1024),
     ((4000, 500), 113, 1024), ((40, 30), 65, None), ((375, 500), 337, None)],
)  # fmt: skip
def test_crop_follows_the_short_side_and_long_images_are_reduced(data_of, size, crop, image_size):
    fitted = fit(OPEN, data_of(size), processes=1)
    assert (fitted.crop_size, fitted.image_size) == (crop, image_size)


@pytest.mark.parametrize(
    ("given", "size", "found"),
    [({}, (4000, 3000), (384, 257, 64, 5_000)), ({}, (640, 640), (384, 257, 64, 5_000)),
     ({}, (320, 240), (None, 209, 64, 5_000)), ({}, (4000, 1000), (384, 81, 64, 5_000)),
     ({"encoder": "dinov2_small"}, (4000, 3000), (384, 252, 64, 5_000)),
     # What is named holds, and what is left open beside it is as with a GPU.
     ({"image_size": 640}, (4000, 3000), (640, 433, 64, 5_000)),
     ({"crop_size": 321}, (4000, 3000), (1024, 321, 64, 5_000)),
     ({"decoder_channels": 128, "steps": 9_000}, (4000, 3000), (384, 257, 128, 9_000))],
)  # fmt: skip
def test_without_a_gpu_open_settings_end_within_hours_and_what_is_spared_is_told(data_of, given, size, found):
    data = data_of(size, 2_000)
    config = dataclasses.replace(OPEN, **{"decoder_channels": 0, "optimizer": "adamw"} | given)
    fitted = fit(config, data, 1, gpu=False)
    assert (fitted.image_size, fitted.crop_size, fitted.decoder_channels, steps_of(fitted, data, 1)) == found
    there = fit(config, data, 1)
    told = spared(config, data, 1)
    assert set(told) <= {"image_size", "crop_size", "decoder_channels", "steps"} - set(given)
    if "steps" not in given:
        assert told["steps"] == (5_000, 20_000)
    if "crop_size" not in given:
        assert told.get("crop_size", (fitted.crop_size,) * 2) == (fitted.crop_size, there.crop_size)
    assert ("decoder_channels" in told) == (not given.keys() & {"encoder", "decoder_channels"})
    assert there.decoder_channels == given.get("decoder_channels", 256)


@pytest.mark.parametrize(("count", "steps"), [(15, 5_000), (1_000, 10_000), (30_000, 100_000)])
def test_schedule_follows_the_number_of_images(data_of, count, steps):
    data = data_of((64, 64), count)
    for processes, accumulation in ((1, 1), (2, 3)):
        config = dataclasses.replace(OPEN, gradient_accumulation_steps=accumulation)
        fitted = fit(config, data, processes)
        assert steps_of(fitted, data, processes) == steps
        assert fitted.epochs == 50
        assert fitted.bank_interval == 2
    assert fit(OPEN, data, 1).lr == (0.001 if steps == 100_000 else 0.004)


DINOV2 = "vit_small_patch14_dinov2.lvd142m"


@pytest.mark.parametrize(
    ("encoder", "size", "crop"),
    [(DINOV2, (500, 375), 336), ("dinov2_base", (4000, 3000), 518), (DINOV2, (40, 30), 70),
     ("test_vit", (500, 375), 336), ("test_vit", (4000, 3000), 512)],
)  # fmt: skip
def test_crops_of_a_plain_vit_are_whole_patches(data_of, encoder, size, crop):
    fitted = fit(dataclasses.replace(OPEN, encoder=encoder, optimizer="adamw"), data_of(size), 1)
    assert (fitted.crop_size, fitted.encoder) == (crop, full_name(encoder))


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"encoder": DINOV2}, ("adamw", 5e-6, 40, 0.01)), ({"optimizer": "sgd"}, ("sgd", 0.004, 10, 1e-4)),
     ({}, ("adamw", 3e-4, 10, 0.01)),
     ({"encoder": DINOV2, "weight_decay": 0.0, "lr": 1e-5}, ("adamw", 1e-5, 40, 0)),
     # A frozen encoder has no rate: the decoder's is 2e-4 over a ViT, with AdamW 3e-3 over others, with SGD .04.
     ({"encoder": DINOV2, "freeze_encoder": True, "decoder_lr_multiplier": 10.0}, ("adamw", 2e-5, 10, 0.01)),
     ({"freeze_encoder": True, "decoder_lr_multiplier": 1.0}, ("adamw", 3e-3, 1, 0.01)),
     ({"optimizer": "sgd", "freeze_encoder": True, "decoder_lr_multiplier": 1.0}, ("sgd", 0.04, 1, 1e-4))],
)  # fmt: skip
def test_optimiser_follows_the_encoder(data_of, given, expected):
    opened = dataclasses.replace(OPEN, optimizer="adamw", decoder_lr_multiplier=0, weight_decay=None)
    fitted = fit(dataclasses.replace(opened, **given), data_of((500, 375)), 1)
    found = (fitted.optimizer, fitted.lr, fitted.decoder_lr_multiplier, fitted.weight_decay)
    assert found == (expected[0], *map(pytest.approx, expected[1:]))


def test_sgd_over_a_plain_vit_needs_a_rate(data_of):
    config = dataclasses.replace(OPEN, encoder=DINOV2)
    with pytest.raises(ConfigError, match=r"no rate of SGD is known to fit a plain ViT .*; set --optimizer adamw or"):
        fit(config, data_of((500, 375)), 1)
    assert fit(dataclasses.replace(config, lr=0.01), data_of((500, 375)), 1).lr == 0.01


def test_where_all_images_are_labelled_settings_follow_from_them(data_of):
    data = data_of((500, 375), 1_000, unlabelled=False)
    fitted = fit(OPEN, data, 1)
    assert fitted == fit(OPEN, data_of((500, 375), 1_000), 1)
    assert steps_of(dataclasses.replace(fitted, epochs=3, epoch_images=0), data, 1) == 750


def test_method_that_needs_unlabelled_images_is_refused_where_there_are_none(data_of):
    data = data_of((64, 64), unlabelled=False)
    require_unlabelled(METHODS["supervised"], data)
    for name in ("fixmatch", "unimatch", "prevmatch"):
        require_unlabelled(METHODS[name], data_of((64, 64)))
        with pytest.raises(
            DataError, match=r"no image is unlabelled; .*--labelled 20%.*--method supervised"
        ) as caught:
            require_unlabelled(METHODS[name], data)
        assert "\n" not in str(caught.value)


def test_settings_that_are_given_stay(data_of):
    data = data_of((500, 375))
    config = TrainConfig(crop_size=99, epochs=7, lr=0.5, bank_interval=3, image_size=None)
    assert fit(config, data, 1) == config


def test_given_epochs_are_passes_over_the_images(data_of):
    fitted = fit(dataclasses.replace(OPEN, epochs=3), data_of((64, 64), 20), 1)
    assert fitted.epoch_images == 0
    assert steps_of(fitted, data_of((64, 64), 20), 1) == 15


def test_epochs_longer_than_the_list_repeat_it_evenly():
    rows = list(TripleSampler(3, 5, seed=0, length=20))
    assert len(rows) == 20
    assert sorted(row.unlabelled for row in rows) == sorted(list(range(5)) * 4)
    assert {row.labelled for row in rows} == {0, 1, 2}


def test_epochs_shorter_than_the_list_take_another_part_each_time():
    sampler = TripleSampler(9, 50, seed=0, length=10)
    parts = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        parts.append({row.unlabelled for row in sampler})
    assert [len(part) for part in parts] == [10, 10, 10]
    assert len(set.union(*parts)) > 20


def test_every_labelled_image_is_seen_when_they_are_more_than_the_unlabelled():
    sampler, seen = TripleSampler(7, 5, seed=0), set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        seen |= {row.labelled for row in sampler}
    assert seen == set(range(7))


def test_summary_reports_another_total_batch(tiny_source):
    from prevmatch.run.summary import summary

    data = divide(tiny_source)
    config = TrainConfig(batch_size=2, total_batch_size=8, crop_size=33, epochs=1)
    text = summary(config, data, 2)
    assert "2 labelled and 6 unlabelled images, 3 for validation, 5 classes" in text
    assert "chosen for steps of 8 + 8 images" in text
    assert "\nencoder from timm/resnet50s.gluon_in1k, licence apache-2.0\n" in text
    assert "NOTE" not in summary(dataclasses.replace(config, gradient_accumulation_steps=2), data, 2)


def test_summary_of_a_supervised_run_counts_labelled_images_only(tiny_source):
    from prevmatch.run.summary import summary

    config = TrainConfig(method="supervised", batch_size=2, total_batch_size=8, crop_size=33, epochs=1)
    text = summary(config, divide(tiny_source, "1_1"), 1)
    assert "8 labelled and 0 unlabelled images, 3 for validation" in text
    assert "1 epochs of 8 images once each, 4 steps of 2 images, learning rate" in text
    assert "chosen for steps of 8 images" in text
