import math

import pytest
import torch

from prevmatch.losses import confidence_weighted, cross_entropy, inverse_log_weights, ohem_cross_entropy


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 9, 11, generator=generator)
    target = torch.randint(0, 5, (2, 9, 11), generator=generator)
    target[0, :3] = 255
    return logits, target


def test_cross_entropy_is_torchs_mean_over_valid_pixels(batch):
    torch.testing.assert_close(cross_entropy(*batch), torch.nn.functional.cross_entropy(*batch, ignore_index=255))


def test_cross_entropy_of_wholly_ignored_batch_is_zero(batch):
    logits, target = batch
    assert cross_entropy(logits, torch.full_like(target, 255)) == 0


def test_ohem_keeps_only_the_hard_pixels(batch):
    logits, target = batch
    probability = logits.softmax(1).gather(1, target.where(target != 255, 0)[:, None])[:, 0]
    hard = (probability <= 0.3) & (target != 255)
    expected = torch.nn.functional.cross_entropy(logits, target.where(hard, 255), ignore_index=255)
    torch.testing.assert_close(ohem_cross_entropy(logits, target, threshold=0.3, min_kept=1), expected)


def test_ohem_without_minimum_or_with_too_large_a_one_is_cross_entropy(batch):
    for min_kept in (0, 10**6):
        torch.testing.assert_close(ohem_cross_entropy(*batch, min_kept=min_kept), cross_entropy(*batch))


def test_ohem_of_wholly_ignored_batch_is_zero(batch):
    logits, target = batch
    assert ohem_cross_entropy(logits, torch.full_like(target, 255), min_kept=3) == 0


def test_pixelwise_counts_confident_valid_pixels_and_divides_by_all_valid_ones():
    loss = torch.tensor([[[1.0, 2.0], [4.0, 8.0]]])
    confidence = torch.tensor([[[0.95, 0.94], [0.99, 0.99]]])
    valid = torch.tensor([[[True, True], [True, False]]])
    assert confidence_weighted(loss, confidence, valid, threshold=0.95) == pytest.approx(5 / 3)


def test_padding_only_batch_costs_nothing():
    ones = torch.ones(2, 3, 3)
    for mode in ("pixelwise", "pixelratio", "pixelavg"):
        assert confidence_weighted(ones, ones, torch.zeros(2, 3, 3, dtype=torch.bool), threshold=0.5, mode=mode) == 0


def test_pixelavg_grows_with_the_batch():
    ones = torch.ones(4, 3, 3)
    valid = ones.bool()
    assert confidence_weighted(ones, ones, valid, threshold=0.0, mode="pixelavg") == pytest.approx(4)
    assert confidence_weighted(ones, ones, valid, threshold=0.0, mode="pixelwise") == pytest.approx(1)


def test_unknown_mode_is_refused():
    ones = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="pixelwise"):
        confidence_weighted(ones, ones, ones.bool(), threshold=0.5, mode="median")


def test_rare_classes_weigh_more_and_the_pixels_one_on_average():
    pixels = torch.tensor([900, 90, 10, 0])
    weights = inverse_log_weights(pixels)
    assert weights.dtype == torch.float32
    assert weights.tolist() == sorted(weights.tolist())
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor(math.log(2.0) / math.log(1.19)))
    torch.testing.assert_close((weights * pixels).sum() / pixels.sum(), torch.tensor(1.0))
    assert inverse_log_weights(torch.zeros(3)).tolist() == [1, 1, 1]


def test_weighted_cross_entropy_is_divided_by_the_number_of_pixels(batch):
    logits, target = batch
    weight = torch.arange(1.0, 1 + logits.shape[1])
    each = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, reduction="none")
    valid = target != 255
    expected = (each * weight[target.where(valid, 0)] * valid).sum() / valid.sum()
    torch.testing.assert_close(cross_entropy(logits, target, class_weight=weight), expected)
