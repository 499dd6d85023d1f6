"""CPS's step and boxes against its public code's arithmetic written out once more."""

import dataclasses
import json
import math
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from conftest import TINY
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy as ce

import prevmatch.losses
from prevmatch import train
from prevmatch.config import SegmenterConfig
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Versions
from prevmatch.guides.itself import Itself
from prevmatch.guides.peer import peer
from prevmatch.guides.thresholds import reaches
from prevmatch.methods import CPS, method_of, step
from prevmatch.mixing import StrongView, cutmix_of_three
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.students import build_students
from prevmatch.views import Views

B, C, SIDE = 3, 3, 48
CONFIG = SegmenterConfig(
    encoder="test_resnet", num_classes=C, decoder_channels=8, low_level_channels=4, atrous_rates=(1, 2, 3)
)


def drawn_masks():
    """BoxMaskGenerator's masks: 3 boxes, proportions .25 to .5, each toggling what lies in it; drawn as ours are."""
    area = 0.25 + 0.25 * torch.rand(B, 3, 1)
    tall, downwards, sidewards = area ** torch.rand(B, 3, 1), torch.rand(B, 3, 1), torch.rand(B, 3, 1)
    masks = torch.zeros(B, SIDE, SIDE, dtype=torch.bool)
    for i in range(B):
        for j in range(3):
            height, width = (
                round(float(share[i, j] * SIDE) * math.sqrt(1 / 3)) for share in (tall, area / tall)
            )  # fmt: skip
            top = round(float((SIDE - height) * downwards[i, j]))
            left = round(float((SIDE - width) * sidewards[i, j]))
            masks[i, top : top + height, left : left + width] ^= True
    return masks


def versions_of(networks):
    def build_frozen(network):  # which compares itself with the network in float32 where it has BatchNorms
        return Frozen(deepcopy(network).float(), torch.float64, side=SIDE)

    together = []
    for number, network in enumerate(networks):
        together.append(Versions(number, network, build_frozen(network), students=together))
    return together


def views_of_a_batch():
    labelled, own, other = torch.randn(3, B, 3, SIDE, SIDE, dtype=torch.float64)
    mask = torch.randint(0, C, (B, SIDE, SIDE))
    mask[:, :3] = 255
    weak = torch.cat([own, other])
    valid = torch.ones(2 * B, SIDE, SIDE, dtype=torch.bool)
    valid[1, 40:] = valid[4, :, 30:] = False
    view = StrongView(weak, torch.zeros(B, SIDE, SIDE, dtype=torch.bool), torch.arange(B, 2 * B))
    return Views(labelled, mask, weak, valid, (view,))


def test_every_value_of_a_step_is_that_of_the_plain_transcription():
    torch.manual_seed(0)
    networks = [Segmenter(CONFIG).double().train() for _ in range(2)]
    copies = deepcopy(networks)
    guides = [[peer(dataclasses.replace(TINY, peer_weight=1.5), versions)] for versions in versions_of(networks)]
    students = [SimpleNamespace(prepared=n, guides=g) for n, g in zip(networks, guides, strict=True)]
    views = views_of_a_batch()
    torch.manual_seed(1)
    found = step(students, views, method=CPS, supervised_loss=prevmatch.losses.cross_entropy).losses

    torch.manual_seed(1)
    with torch.no_grad():  # in train mode, as it is published
        labels = [network(views.weak).argmax(1) for network in (copies[1], copies[0])]
    masks, total = drawn_masks(), 0.0
    image = torch.where(masks[:, None], views.weak[B:], views.weak[:B])
    valid = torch.where(masks, views.valid[B:], views.valid[:B])
    for number, (network, label) in enumerate(zip(copies, labels, strict=True)):
        target = torch.where(masks, label[B:], label[:B])
        supervised = ce(network(views.labelled), views.mask, ignore_index=255)
        pixels = ce(network(image), target, reduction="none") * valid
        crossed = pixels.sum() / valid.sum()
        total = total + supervised + 1.5 * crossed
        prefix = "2/" if number else ""
        torch.testing.assert_close(found[f"{prefix}supervised"].double(), supervised, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(found[f"{prefix}peer/strong1"].double(), crossed, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found["loss"].double(), total, rtol=1e-7, atol=1e-7)
    for ours, theirs in zip(networks, copies, strict=True):
        torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


def test_three_boxes_cover_a_quarter_to_a_half():
    torch.manual_seed(0)
    nothing = torch.zeros(400, 60, 80, dtype=torch.bool)
    view = StrongView(
        torch.cat([torch.zeros(400, 3, 60, 80), torch.ones(400, 3, 60, 80)]), nothing, torch.arange(400, 800)
    )
    images, _ = cutmix_of_three(view, [], [])
    shares = images.mean(dim=(1, 2, 3))
    assert 0.22 < shares.mean() < 0.375  # what overlaps shows the image itself
    assert shares.max() < 0.52


def test_twins_learn_from_each_other_as_from_themselves():
    torch.manual_seed(0)
    network = Segmenter(dataclasses.replace(CONFIG, encoder="test_vit")).double().train()
    versions, views = versions_of([network, deepcopy(network)]), views_of_a_batch()
    pair = [SimpleNamespace(prepared=v.network, guides=[peer(TINY, v)]) for v in versions]
    itself = Itself(name="student", accepts=lambda ids, sure: reaches(0.0, ids, sure), versions=versions[0])
    alone = [SimpleNamespace(prepared=network, guides=[itself])]
    losses = []
    for students in (pair, alone):
        torch.manual_seed(2)
        losses.append(step(students, views, method=CPS, supervised_loss=prevmatch.losses.cross_entropy).losses)
    torch.testing.assert_close(losses[0]["loss"], 2 * losses[1]["loss"])
    torch.testing.assert_close(losses[0]["2/peer/strong1"], losses[1]["student/strong1"])


def test_a_run_has_two_students_and_scores_the_first(tiny_data, tiny_config):
    train(dataclasses.replace(tiny_config, method="cps", previous_guidance=True), tiny_data)
    lines = [json.loads(line) for line in (tiny_config.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert {"peer/strong1", "2/peer/strong1", "2/supervised", "previous/strong1"} <= set().union(*lines)
    last = max((tiny_config.output_dir / "checkpoints").glob("step_*"))
    first, second = (load_file(last / name / "model.safetensors") for name in ("model", "model_2"))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_fp16_is_refused(tiny_config, tiny_data):
    config, machine = dataclasses.replace(tiny_config, method="cps"), SimpleNamespace(scaler=object())
    with pytest.raises(ConfigError, match="method cps has several optimisers, which fp16 cannot serve; use bf16"):
        build_students(config, method_of(config), tiny_data, machine)


def test_students_begin_with_decoders_of_their_own(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, method="cps")
    first, second = build_students(config, method_of(config), tiny_data, Accelerator())
    assert not torch.equal(first.network.decoder.classifier.weight, second.network.decoder.classifier.weight)
    images = torch.randn(2, 3, 33, 33)
    for student, other in ((first, second), (second, first)):
        [guide] = student.guides
        with torch.no_grad():
            torch.testing.assert_close(guide.label(images), other.network(images, enlarged=False))
        moved = other.network.decoder.reduce[1].num_batches_tracked.clone()
        guide.preview(images)
        assert other.network.decoder.reduce[1].num_batches_tracked == moved
