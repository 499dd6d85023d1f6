"""Diverse Co-training's step against its public code's arithmetic written out once more."""

import dataclasses
import json
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import timm
import torch
from accelerate import Accelerator
from conftest import TINY
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy as ce

import prevmatch.losses
from prevmatch import Segmenter, train
from prevmatch.config import SegmenterConfig
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Versions
from prevmatch.guides.outside import Outside
from prevmatch.guides.peer import co_student, peer
from prevmatch.methods import CO_TRAINING, CPS, method_of, step
from prevmatch.mixing import StrongView
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter as Network
from prevmatch.run.fitting import fit
from prevmatch.students import build_students
from prevmatch.views import Views

B, C, SIDE, TAU = 3, 4, 48, 0.4
ENCODERS = ("test_resnet", "test_resnet.dct", "test_convnext")


def network_of(encoder):
    config = SegmenterConfig(
        encoder=encoder, num_classes=C, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3)
    )
    network = Network(config).double().train()
    with torch.no_grad():  # else no image says anything
        [*network.decoder.parameters()][-2].mul_(10)
    return network


def versions_of(networks):
    together = []
    for number, network in enumerate(networks):
        frozen = Frozen(deepcopy(network).float(), torch.float64, side=SIDE)
        together.append(Versions(number, network, frozen, students=together))
    return together


def views_of_a_batch():
    labelled, weak, strong = torch.randn(3, B, 3, SIDE, SIDE, dtype=torch.float64)
    mask = torch.randint(0, C, (B, SIDE, SIDE))
    mask[:, :3] = 255
    valid, box = torch.ones(B, SIDE, SIDE, dtype=torch.bool), torch.zeros(B, SIDE, SIDE, dtype=torch.bool)
    valid[1, 40:], box[0, 5:30, 9:40], box[2, 20:, :11] = False, True, True
    return Views(labelled, mask, weak, valid, (StrongView(strong, box, torch.arange(B).roll(1)),))


def settings(**changes):
    return dataclasses.replace(TINY, method="co_training", **changes)


@pytest.mark.parametrize("count", [2, 3])
def test_every_value_of_a_step_is_that_of_the_plain_transcription(count):
    torch.manual_seed(0)
    networks = [network_of(encoder) for encoder in ENCODERS[:count]]
    copies = deepcopy(networks)
    config = settings(co_encoders=ENCODERS[1:count], confidence_threshold=TAU, peer_weight=1.5)
    method, together = method_of(config), versions_of(networks)
    students = [
        SimpleNamespace(prepared=v.network, guides=[build(config, v) for build in method.guides]) for v in together
    ]
    views = views_of_a_batch()
    found = step(students, views, method=method, supervised_loss=prevmatch.losses.cross_entropy).losses

    x, mask, weak, valid, [view] = views
    image, real = view.pool.clone(), valid.clone()
    for i in range(B):
        image[i][:, view.box[i]] = view.pool[i - 1][:, view.box[i]]
        real[i][view.box[i]] = valid[i - 1][view.box[i]]
    answers = [network(torch.cat([x, weak])).chunk(2) for network in copies]
    mixed = [network(image) for network in copies]
    total = 0.0
    for i in range(count):
        crossed = 0.0
        for j in range(count):
            if i == j:
                continue
            confidence, label = answers[j][1].detach().softmax(1).max(1)
            target, sure = label.clone(), confidence.clone()
            for k in range(B):
                target[k][view.box[k]] = label[k - 1][view.box[k]]
                sure[k][view.box[k]] = confidence[k - 1][view.box[k]]
            pixels = ce(mixed[i], target, reduction="none") * ((sure >= TAU) & real)
            prefix = f"{i + 1}/" if i else ""
            term = pixels.sum() / real.sum()
            assert term > 0
            torch.testing.assert_close(found[f"{prefix}student{j + 1}/strong1"].double(), term, rtol=1e-7, atol=1e-7)
            crossed = crossed + term / (count - 1)
        total = total + (ce(answers[i][0], mask, ignore_index=255) + 1.5 * crossed) / count
    torch.testing.assert_close(found["loss"].double(), total, rtol=1e-7, atol=1e-7)
    found["loss"].backward()
    total.backward()
    for ours, theirs in zip(networks, copies, strict=True):
        torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-9)


def test_two_equal_architectures_are_cps_without_its_boxes():
    """Over networks without BatchNorm, which CPS's guide moves once more."""
    torch.manual_seed(0)
    networks = [network_of("test_vit") for _ in range(2)]
    config, views = settings(co_encoders=("another",), confidence_threshold=0.0), views_of_a_batch()
    plain = dataclasses.replace(CPS, **{name: getattr(CO_TRAINING, name) for name in ("mixing", "draw", "box")})
    losses = []
    for method, build in ((method_of(config), partial(co_student, ahead=1)), (plain, peer)):
        students = [SimpleNamespace(prepared=v.network, guides=[build(config, v)]) for v in versions_of(networks)]
        losses.append(step(students, views, method=method, supervised_loss=prevmatch.losses.cross_entropy).losses)
    torch.testing.assert_close(2 * losses[0]["loss"], losses[1]["loss"])  # it averages what CPS adds
    torch.testing.assert_close(losses[0]["student2/strong1"], losses[1]["peer/strong1"])
    torch.testing.assert_close(losses[0]["2/student1/strong1"], losses[1]["2/peer/strong1"])


def test_a_run_trains_three_architectures_and_keeps_the_first(tiny_config, tiny_data):
    config = dataclasses.replace(
        tiny_config, method="co_training", co_encoders=ENCODERS[1:], previous_guidance=True, logging_steps=1
    )
    train(config, tiny_data)
    lines = [json.loads(line) for line in (config.output_dir / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*lines)
    assert {"student2/strong1", "student3/strong1", "2/student1/strong1", "3/student2/strong1"} <= names
    assert {"previous/strong1", "2/previous/strong1", "3/supervised"} <= names
    last = max((config.output_dir / "checkpoints").glob("step_*"))
    assert Segmenter.from_pretrained(config.output_dir / "best").config.encoder == "test_resnet"
    keys = [set(load_file(last / name / "model.safetensors")) for name in ("model", "model_2", "model_3")]
    assert "encoder.conv1.norm.weight" in keys[1]
    assert len({frozenset(each) for each in keys}) == 3


@pytest.mark.parametrize(("changes", "message"), [
    ({"method": "cps", "co_encoders": ("test_convnext",)}, "co_encoders are only trained by method co_training"),
    ({"co_encoders": ("test_resnet",)}, "encoder 'test_resnet' is named twice, but students of co_training differ"),
    ({"co_encoders": ("test_vit", "test_vit")}, "encoder 'test_vit' is named twice"),
    ({"co_encoders": ("test_vit",)}, "crop_size is 33 but must be a multiple of 16, the patch of encoder 'test_vit'"),
    ({"co_encoders": ("a", "b", "c")}, "co_encoders are 3 but co_training has at most three"),
    ({"co_encoders": ("resnet18",), "co_encoder_weights": ("a", "b")}, "co_encoder_weights are 2 but co_encoders 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_training(tiny_config, tiny_data, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        train(dataclasses.replace(tiny_config, **{"method": "co_training"} | changes), tiny_data)
    assert "\n" not in str(caught.value)
    assert not tiny_config.output_dir.exists()


def test_short_names_of_encoders_are_known_and_one_is_taken_where_none_is_named(tiny_data):
    config = settings(encoder="resnet50", co_encoders=("dinov2_small",), crop_size=56)
    assert fit(config, tiny_data, 1).co_encoders == ("vit_small_patch14_dinov2.lvd142m",)
    assert fit(dataclasses.replace(config, co_encoders=()), tiny_data, 1).co_encoders == ("resnet50.dct",)


def test_each_student_begins_with_weights_of_its_own(tmp_path, tiny_data):
    """A file has one encoder's weights, so the others do not read it."""
    files = []
    for name in ENCODERS[:2]:
        files.append(tmp_path / f"{name}.safetensors")
        save_file(timm.create_model(name.removesuffix(".dct"), num_classes=0).state_dict(), files[-1])
    config = settings(
        encoder=ENCODERS[0], encoder_weights=str(files[0]), co_encoders=ENCODERS[1:2],
        co_encoder_weights=(str(files[1]),),
    )  # fmt: skip
    accelerator = Accelerator(cpu=True)
    first, second = build_students(fit(config, tiny_data, 1), method_of(config), tiny_data, accelerator)
    for student, file in zip((first, second), files, strict=True):
        weights = load_file(file)
        shared = [name for name in student.network.encoder.state_dict() if name in weights]
        assert len(shared) > 20
        assert all(torch.equal(student.network.encoder.state_dict()[name], weights[name]) for name in shared)


def test_each_encoder_sees_images_by_the_statistics_of_its_own_weights(tiny_data):
    """All students get what the first one's statistics made of a batch."""
    config = settings(encoder="test_resnet", co_encoders=("test_byobnet",), score="ema")
    first, second = build_students(config, method_of(config), tiny_data, Accelerator(cpu=True))
    assert first.network.config.mean != second.network.config.mean
    pixels = 255 * torch.rand(2, 3, SIDE, SIDE)
    shown = first.network.normalize(pixels)
    alone = Segmenter(second.network.config).eval()  # as it is loaded from a checkpoint
    alone.load_state_dict(second.network.state_dict())
    expected = alone(alone.normalize(pixels), enlarged=False)
    second.network.eval()
    for answer in (
        second.prepared(shown, enlarged=False),
        second.versions.average.network.eval()(shown, enlarged=False),
        second.versions.frozen.answer(second.network, shown),
    ):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        first.network.eval()(shown), deepcopy(first.network)(first.network.normalize(pixels)), rtol=0, atol=0
    )


def test_a_guide_from_outside_sees_the_pixels_whichever_student_asks(tiny_data):
    config = settings(encoder="test_resnet", co_encoders=("test_byobnet",))
    students = build_students(config, method_of(config), tiny_data, Accelerator(cpu=True))
    pixels = 255 * torch.rand(2, 3, SIDE, SIDE)
    for student in students:
        guide = Outside(
            name="outside", accepts=None, versions=student.versions, scores=lambda images: images, first=1, epochs=1
        )
        torch.testing.assert_close(guide.label(students[0].network.normalize(pixels)), pixels)
