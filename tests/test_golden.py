"""Parity with the published method: every array of the golden set, within its stated tolerances."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from golden_files import SMALL, full_folder, published_network
from torch.nn.functional import conv2d

from prevmatch.data.palettes import CITYSCAPES_PALETTE, voc_palette
from prevmatch.evaluate import sliding_window
from prevmatch.guides import previous_models_as_guide, student_as_guide
from prevmatch.losses import confidence_weighted, cross_entropy, ohem_cross_entropy
from prevmatch.methods import PREVMATCH, UNIMATCH, step
from prevmatch.metrics import confusion_matrix, iou
from prevmatch.models.frozen import build_skeleton, frozen_logits, tensors_of
from prevmatch.models.published import published_name
from prevmatch.models.segmenter import Segmenter
from prevmatch.schedule import poly, triangle
from prevmatch.views import Views, paste

CITYSCAPES_WEIGHT = torch.tensor(
    [.8373, .918, .866, 1.0345, 1.0166, .9969, .9754, 1.0489, .8786, 1.0023, .9539, .9843, 1.1116, .9037, 1.0865,
     1.0955, 1.0865, 1.1529, 1.0507], dtype=torch.float64
)  # fmt: skip


class Arrays:
    """An .npz as tensors."""

    def __init__(self, path):
        self.file = np.load(path)

    def __contains__(self, name):
        return name in self.file.files

    def __getitem__(self, name):
        if name not in self.file.files:
            pytest.skip(f"{name} is only in the full golden set")
        return torch.from_numpy(self.file[name])


class Doubles(Arrays):
    """An .npz as tensors, floats in double precision: what is computed from them is the same on any processor."""

    def __getitem__(self, name):
        tensor = super().__getitem__(name)
        return tensor.double() if tensor.is_floating_point() else tensor


@pytest.fixture(params=["small", "full"])
def functions(request):
    return Doubles((SMALL if request.param == "small" else full_folder()) / "functions.npz")


def close(actual, expected, rtol=1e-5):
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), expected.double(), rtol=rtol, atol=rtol * 1e-2
    )


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("mode", ["pixelwise", "pixelratio", "pixelavg"])
def test_confidence_weighted_loss(functions, case, mode):
    loss, confidence, ignore = (functions[f"cwl{case}_{name}"] for name in ("loss", "conf", "ignore"))
    threshold = float(functions[f"cwl{case}_thresh"])
    actual = confidence_weighted(loss, confidence, ignore != 255, threshold=threshold, mode=mode)
    close(actual, functions[f"cwl{case}_{mode}"])


@pytest.mark.parametrize("case", range(5))
def test_ohem_cross_entropy(functions, case):
    logits, target = functions[f"ohem{case}_logits"], functions[f"ohem{case}_target"]
    weight = CITYSCAPES_WEIGHT if functions[f"ohem{case}_city_weight"] else None
    min_kept = int(functions[f"ohem{case}_min_kept"])
    actual = ohem_cross_entropy(logits, target, min_kept=min_kept, class_weight=weight)
    close(actual, functions[f"ohem{case}_loss"])


@pytest.mark.parametrize("epochs", [30, 40, 80, 240])
def test_guidance_weight(functions, epochs):
    close([triangle(epoch, epochs) for epoch in range(epochs)], functions[f"lambda_{epochs}"])


def test_learning_rate(functions):
    expected = functions["poly_lr_used"]
    close([poly(t, len(expected), float(functions["poly_lr_base"])) for t in range(len(expected))], expected)


def test_iou(functions):
    confusion = sum(
        confusion_matrix(functions[f"iou_pred{i}"], functions[f"iou_target{i}"], num_classes=7) for i in range(4)
    )
    intersection = confusion.diagonal()
    assert torch.equal(intersection, functions["iou_intersection"].long())
    assert torch.equal(confusion.sum(0) + confusion.sum(1) - intersection, functions["iou_union"].long())
    close(iou(confusion), functions["iou_class"])
    close(iou(confusion).mean(), functions["miou"])


def slide_network(functions):
    return lambda x: conv2d(conv2d(x, functions["slide_w1"], padding=1).relu(), functions["slide_w2"], padding=1)


def test_sliding_window_decides_alike(functions):
    scores = sliding_window(slide_network(functions), functions["slide_image"], int(functions["slide_window"]))
    assert torch.equal(scores.argmax(1).byte(), functions["slide_pred"])


def test_sliding_window_scores(functions):
    scores = sliding_window(slide_network(functions), functions["slide_image"], int(functions["slide_window"]))
    close(scores, functions["slide_scores"])


def test_cutmix(functions):
    box = functions["cutmix_box"] == 1
    images = paste(box, functions["cutmix_img_mix"], functions["cutmix_img"])
    labels = paste(box, functions["cutmix_label_mix"], functions["cutmix_label"])
    assert torch.equal(images, functions["cutmix_img_out"])
    assert torch.equal(labels, functions["cutmix_label_out"])


def test_palettes(functions):
    assert np.array_equal(voc_palette(256), functions["palette_voc"])
    assert np.array_equal(np.array(CITYSCAPES_PALETTE), functions["palette_cityscapes"])


def test_small_set_resnet50_logits_before_and_after_saving(tmp_path):
    network = published_network(SMALL, "resnet50", tmp_path, prefix="module.")
    network.save_pretrained(tmp_path / "saved")
    arrays = Arrays(SMALL / "resnet50_eval.npz")
    expected = arrays["logits_every_8th"]
    for version in (network, Segmenter.from_pretrained(tmp_path / "saved")):
        with torch.no_grad():
            actual = version(arrays["image"])[:, :, ::8, ::8]
        assert (actual - expected).abs().max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "xception"])
def test_published_networks(backbone, tmp_path):
    folder = full_folder()
    network = published_network(folder, backbone, tmp_path)
    arrays = Arrays(folder / f"{backbone}_eval.npz")
    with torch.no_grad():
        low, high = network.encoder(arrays["image"])
        actual = network(arrays["image"])
    close(low.mean((2, 3)), arrays["low_level_mean"], rtol=1e-4)
    close(high.mean((2, 3)), arrays["high_level_mean"], rtol=1e-4)
    assert (actual - arrays["logits"]).abs().max() <= 1e-4 * arrays["logits"].std()


class TwoFixedMembers:
    """Stands in for the bank: the two previous models of the golden step with their given weights."""

    def __init__(self, base, arrays):
        self.members = []
        for i, weight in enumerate(arrays["prev_weights"].tolist()):
            member = {name: tensor.clone() for name, tensor in base.items()}
            member["decoder.classifier.weight"] += arrays[f"prev{i}_classifier_delta"]
            self.members.append((weight, member))

    def draw(self, most, *, random_size):
        return self.members


@pytest.fixture(params=["small pascal", "full pascal", "full cityscapes"])
def golden_step(request, tmp_path):
    """The whole steps in float64: network, views, guides and loss as the golden set describes them, and its arrays.

    In float32 a batch as small as theirs is decided by the order of summation, which differs between processors and
    numbers of threads.
    """
    size, name = request.param.split()
    folder = SMALL if size == "small" else full_folder()
    arrays = Doubles(folder / f"step_{name}.npz")
    pascal = name == "pascal"
    network = published_network(folder, "resnet50", tmp_path, num_classes=21 if pascal else 19).double().train()
    boxes = tuple(arrays[f"cutmix_box{i}"] == 1 for i in (1, 2))
    views = Views(
        labelled=arrays["img_x"],
        mask=arrays["mask_x"].long(),
        weak=arrays["img_u_w"],
        valid=arrays["ignore_mask"] != 255,
        partner=arrays["img_u_w_mix"],
        partner_valid=arrays["ignore_mask_mix"] != 255,
        strong=tuple(
            paste(box, arrays[f"img_u_s{i}_mix"], arrays[f"img_u_s{i}"]) for i, box in zip((1, 2), boxes, strict=True)
        ),
        boxes=boxes,
    )
    forward = partial(frozen_logits, build_skeleton(network.config))
    student = student_as_guide(forward, lambda: tensors_of(network), threshold=float(arrays["conf_thresh"]))
    previous = previous_models_as_guide(
        forward,
        TwoFixedMembers(tensors_of(network), arrays),
        most=3,
        random_size=True,
        threshold=float(arrays["prev_conf_thresh"]),
        weighting="pixelwise" if pascal else "pixelavg",
        weight=float(arrays["lam"]),
    )
    loss = cross_entropy if pascal else partial(ohem_cross_entropy, threshold=0.7, min_kept=2000)
    return network, views, student, previous, loss, arrays


def test_whole_prevmatch_step(golden_step):
    network, views, student, previous, supervised_loss, arrays = golden_step
    method = dataclasses.replace(PREVMATCH, feature_dropout=0.0)
    losses = step(network, views, method=method, guides=[student, previous], supervised_loss=supervised_loss)
    losses["loss"].backward()
    expected = {
        "supervised": "loss_x",
        "student/strong1": "loss_s1",
        "student/strong2": "loss_s2",
        "student/feature": "loss_fp",
        "previous/strong1": "prev_s1",
        "previous/strong2": "prev_s2",
        "previous/feature": "prev_fp",
        "student/mask_ratio": "mask_ratio",
        "previous/mask_ratio": "mask_ratio_prev",
        "loss": "total_prevmatch",
    }
    for ours, theirs in expected.items():
        close(losses[ours].detach(), arrays[theirs], rtol=1e-6)

    norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
    close(norm, arrays["grad_norm"], rtol=1e-6)
    gradients = {name: p.grad for name, p in network.named_parameters()}
    for theirs in ("classifier.weight", "classifier.bias", "backbone.conv1.0.weight", "head.b0.0.weight"):
        golden = arrays[f"grad_{theirs}"]
        ours = gradients[published_name(theirs, "resnet50")]
        ours = ours[:: len(ours) // len(golden)]  # the small set has every 64th row of the largest
        assert (ours - golden).norm() <= 1e-6 * golden.norm()
    close(network.decoder.reduce[1].running_mean, arrays["bn_mean_after"], rtol=1e-6)


def test_whole_unimatch_step(golden_step):
    network, views, student, _, supervised_loss, arrays = golden_step
    method = dataclasses.replace(UNIMATCH, feature_dropout=0.0)
    with torch.no_grad():
        losses = step(network, views, method=method, guides=[student], supervised_loss=supervised_loss)
    close(losses["loss"], arrays["total_unimatch"], rtol=1e-6)
