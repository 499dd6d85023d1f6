"""Parity with the published method: every array of the golden set, within its stated tolerances."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_files import SMALL, full_folder, published_network
from torch.nn.functional import conv2d

from prevmatch.config import TrainConfig
from prevmatch.data.palettes import CITYSCAPES_PALETTE, voc_palette
from prevmatch.evaluate import sliding_window
from prevmatch.guides.guide import Versions
from prevmatch.guides.itself import itself
from prevmatch.guides.previous import previous
from prevmatch.losses import confidence_weighted, cross_entropy, ohem_cross_entropy
from prevmatch.methods import PREVMATCH, UNIMATCH, step, with_dropped_channels
from prevmatch.metrics import confusion_matrix, iou
from prevmatch.mixing import StrongView, paste
from prevmatch.models.frozen import build_skeleton, frozen_logits, tensors_of
from prevmatch.models.published import published_name
from prevmatch.models.segmenter import Segmenter
from prevmatch.schedule import poly, triangle
from prevmatch.views import Views

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
    donor = len(box) + torch.arange(len(box))
    images, labels = (
        paste(box, torch.cat([functions[f"cutmix_{kind}"], functions[f"cutmix_{kind}_mix"]]), donor)
        for kind in ("img", "label")
    )
    assert torch.equal(images, functions["cutmix_img_out"])
    assert torch.equal(labels, functions["cutmix_label_out"])


def test_palettes(functions):
    assert np.array_equal(voc_palette(256), functions["palette_voc"])
    assert np.array_equal(np.array(CITYSCAPES_PALETTE), functions["palette_cityscapes"])


def test_small_set_resnet50_logits_before_and_after_saving(tmp_path):
    network = published_network(SMALL, "resnet50")
    network.save_pretrained(tmp_path / "saved")
    arrays = Arrays(SMALL / "resnet50_eval.npz")
    expected = arrays["logits_every_8th"]
    for version in (network, Segmenter.from_pretrained(tmp_path / "saved")):
        with torch.no_grad():
            actual = version(arrays["image"])[:, :, ::8, ::8]
        assert (actual - expected).abs().max() <= 1e-4 * expected.std()


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


class Plain:
    """Stands in for `Frozen`: nothing folded."""

    def __init__(self, network):
        self.skeleton = build_skeleton(network.config)

    def form(self, tensors):
        return tensors

    def logits(self, tensors, images):
        return frozen_logits(self.skeleton, tensors, images)

    def answer(self, network, images):
        return self.logits(tensors_of(network), images)


# The full set of the same step as in the small one has but more numbers of it.
FULL_PASCAL = pytest.param("full pascal", marks=pytest.mark.variation)


@pytest.fixture(scope="module", params=["small pascal", FULL_PASCAL, "full cityscapes"])
def step_name(request):
    """All tests of one step follow each other, so that its network is loaded once."""
    return request.param


@pytest.fixture
def golden_step(step_name):
    """The whole steps in float64: network, views, guides and loss as the golden set describes them, and its arrays.

    In float32 a batch as small as theirs is decided by the order of summation, which differs between processors and
    numbers of threads.
    """
    size, name = step_name.split()
    folder = SMALL if size == "small" else full_folder()
    arrays = Doubles(folder / f"step_{name}.npz")
    pascal = name == "pascal"
    network = deepcopy(published_network(folder, "resnet50", None if pascal else 19)).double().train()
    donor = torch.tensor([2, 3])  # each image's own partner, behind the two images in the pool
    strong = tuple(
        StrongView(torch.cat([arrays[f"img_u_s{i}"], arrays[f"img_u_s{i}_mix"]]), arrays[f"cutmix_box{i}"] == 1, donor)
        for i in (1, 2)
    )
    ignore = torch.cat([arrays["ignore_mask"], arrays["ignore_mask_mix"]])
    weak = torch.cat([arrays["img_u_w"], arrays["img_u_w_mix"]])
    views = Views(arrays["img_x"], arrays["mask_x"].long(), weak, ignore != 255, strong)
    config = TrainConfig(
        confidence_threshold=float(arrays["conf_thresh"]),
        previous_threshold=float(arrays["prev_conf_thresh"]),
        previous_weighting="pixelwise" if pascal else "pixelavg",
    )
    versions = Versions(0, network, Plain(network))
    guides = [itself(config, versions), previous(config, versions)]
    guides[1].bank, guides[1].weight = TwoFixedMembers(tensors_of(network), arrays), float(arrays["lam"])
    loss = cross_entropy if pascal else partial(ohem_cross_entropy, threshold=0.7, min_kept=2000)
    return network, guides, views, loss, arrays


def without_dropout(method):
    first, *others = method.forwards
    kept = replace(first, perturb=partial(with_dropped_channels, probability=0.0))
    return replace(method, forwards=(kept, *others))


def test_whole_prevmatch_step(golden_step):
    network, guides, views, supervised_loss, arrays = golden_step
    students = [SimpleNamespace(prepared=network, guides=guides)]
    losses, _ = step(students, views, method=without_dropout(PREVMATCH), supervised_loss=supervised_loss)
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
    network, guides, views, supervised_loss, arrays = golden_step
    students = [SimpleNamespace(prepared=network, guides=guides[:1])]
    with torch.no_grad():
        losses, _ = step(students, views, method=without_dropout(UNIMATCH), supervised_loss=supervised_loss)
    close(losses["loss"], arrays["total_unimatch"], rtol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "xception"])
def test_published_networks(backbone):
    folder = full_folder()
    network = published_network(folder, backbone)
    arrays = Arrays(folder / f"{backbone}_eval.npz")
    with torch.no_grad():
        low, high = network.encoder(arrays["image"])
        actual = network(arrays["image"])
    close(low.mean((2, 3)), arrays["low_level_mean"], rtol=1e-4)
    close(high.mean((2, 3)), arrays["high_level_mean"], rtol=1e-4)
    assert (actual - arrays["logits"]).abs().max() <= 1e-4 * arrays["logits"].std()
