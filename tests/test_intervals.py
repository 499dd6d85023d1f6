"""Intervals of scores: they hold the truth as often as they say, and a different seed is no better method."""

from math import isnan

import numpy as np
import pytest

from prevmatch.intervals import (
    Interval,
    answer,
    counts_of,
    difference,
    expanded_percentiles,
    extrapolation,
    iou_of,
    mean_iou,
    scores,
    student_quantile,
    told,
)


def image(rng, skill, classes=4, pixels=400):
    """The confusion matrix of an image: a few classes of random sizes, each known with its own skill ± luck."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    there = rng.random(classes) < [1.0, *np.linspace(0.8, 0.4, classes - 1)]
    sizes = rng.dirichlet(np.ones(there.sum())) * pixels
    for label, size in zip(np.flatnonzero(there), sizes.astype(int) + 1, strict=True):
        right = rng.binomial(size, rng.beta(6 * skill[label], 6 * (1 - skill[label])))
        matrix[label, label] += right
        matrix[label, rng.integers(classes)] += size - right
    return matrix


def images(rng, count, skill=(0.9, 0.7, 0.6, 0.5)):
    return np.stack([image(rng, np.array(skill)) for _ in range(count)])


def test_quantiles_of_student_are_those_of_the_tables():
    for freedom, value in ((1, 6.3138), (2, 2.9200), (3, 2.3534), (4, 2.1318), (9, 1.8331), (30, 1.6973)):
        assert student_quantile(0.95, freedom) == pytest.approx(value, abs=1e-4)


def test_scores_are_those_of_the_added_matrices():
    matrices = images(np.random.default_rng(0), 12)
    total = matrices.sum(0)
    by_hand = [100 * total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(4)]
    found = scores(matrices)
    assert [interval.value for interval in found.classes] == pytest.approx(by_hand)
    assert found.miou.value == pytest.approx(np.mean(by_hand))
    assert found.miou.masks == 12
    assert [interval.masks for interval in found.classes] == [(matrices[:, c].sum(1) > 0).sum() for c in range(4)]
    assert all(interval.low < interval.value < interval.high for interval in (found.miou, *found.classes))
    assert scores(matrices) == found  # the same draws each time


@pytest.mark.parametrize(("count", "least", "most"), [(20, 168, 196), (5, 160, 198)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(count, least, most):
    rng = np.random.default_rng(1)
    truth = mean_iou(iou_of(counts_of(images(rng, 5000)).sum(0)))
    found = [scores(images(rng, count)).miou for _ in range(200)]
    assert least <= sum(interval.low <= truth <= interval.high for interval in found) <= most


def test_interval_is_wide_for_few_images_and_narrow_for_many():
    rng = np.random.default_rng(2)
    few, many = (scores(images(rng, count)).miou for count in (4, 200))
    assert few.half > 3 * many.half


def test_two_images_have_no_interval_and_say_so():
    found = scores(images(np.random.default_rng(0), 2))
    assert isnan(found.miou.low)
    assert "from 2 masks, too few to say how sure that is" in str(found.miou)
    assert found.miou.to_json()["low"] is None


def test_class_that_few_masks_show_has_no_interval():
    matrices = images(np.random.default_rng(0), 10)
    matrices[2:, 3] = 0
    matrices[:2, 3, 3] = 50
    found = scores(matrices).classes[3]
    assert isnan(found.low)
    assert found.masks == 2
    assert str(found) == f"{found.value:.0f} from 2 masks, too few to say how sure that is"


def test_class_that_is_nowhere_is_left_out_or_counts_nothing_as_the_protocol_says():
    matrices = np.pad(images(np.random.default_rng(0), 10), ((0, 0), (0, 1), (0, 1)))
    own, published = scores(matrices).miou, scores(matrices, absent=0.0).miou
    assert published.value == pytest.approx(own.value * 4 / 5)
    assert (published.low, published.high) == pytest.approx((own.low * 4 / 5, own.high * 4 / 5))
    assert str(scores(matrices).classes[4]) == "no number, as no mask shows it"


def test_images_of_one_scene_are_no_independent_witnesses():
    one_each = images(np.random.default_rng(0), 8)
    copies = np.repeat(one_each, 5, axis=0)
    scenes = np.repeat(np.arange(8), 5)
    assert scores(copies, units=scenes).miou.half == pytest.approx(scores(one_each).miou.half)
    assert scores(copies).miou.half < 0.6 * scores(copies, units=scenes).miou.half


def trained(rng, folds, level, luck):
    """Confusions of images of five folds, the network of each being better or worse by luck; and the images' own."""
    found = []
    for fold in range(5):
        shift = rng.normal(0, luck)
        skill = np.clip(np.array([0.9, 0.7, 0.6, 0.5]) + level + shift, 0.05, 0.97)
        found += [image(np.random.default_rng((int(folds[0]), fold, i)), skill) for i in range(4)]
    return np.stack(found)


def test_another_seed_of_the_same_method_is_not_told_to_be_better():
    rng, folds = np.random.default_rng(3), np.repeat(np.arange(5), 4)
    said = []
    for number in range(60):
        seeds = [trained(rng, (number, 0), 0, 0.04) for _ in range(2)]
        said.append(answer(difference(*seeds, units=[None, folds])))
    assert sum(line.startswith("cannot be told from 20 masks") for line in said) >= 51
    assert difference(seeds[0], seeds[0], units=[None, folds]).value == 0


def test_much_better_method_is_told_to_be_better_and_a_worse_one_not_to_be_used():
    rng, folds = np.random.default_rng(4), np.repeat(np.arange(5), 4)
    better, worse = trained(rng, (0, 0), 0.15, 0.01), trained(rng, (0, 0), -0.1, 0.01)
    gain = difference(better, worse, units=[None, folds])
    assert answer(gain) == f"yes, {gain.value:+.1f} [{gain.low:.1f}, {gain.high:.1f}]"
    assert answer(difference(worse, better, units=[None, folds])).startswith("no: use --method supervised (-")


def test_line_through_the_scores_goes_on_and_so_does_that_of_the_last_two():
    rng = np.random.default_rng(5)
    points = [images(rng, 40, np.array([0.8, 0.7, 0.6, 0.5]) + gain) for gain in (-0.1, 0.0, 0.1)]
    values = [scores(point).miou.value for point in points]
    promised = extrapolation(points, [4, 8, 16], 32)
    lines = np.polyval(np.polyfit([2, 3, 4], values, 1), 5), 2 * values[2] - values[1]
    assert promised.value == pytest.approx(np.mean(lines))
    flat = extrapolation([points[0], points[2], points[2]], [4, 8, 16], 32)  # the last doubling brought nothing
    assert flat.low < values[2] < flat.value
    assert promised.low < promised.value < promised.high
    assert extrapolation(points, [4, 8, 16], 16).half < promised.half  # the farther, the less sure


def test_sentences():
    number = Interval(54.2, 37.0, 71.0, 4)
    assert told(number, folds=False) == "54 ± 17 from 4 masks: --folds 5 gives a number to rely on"
    assert (
        told(Interval(54.2, 48, 60, 20), folds=True)
        == "54 ± 6 from 20 masks, each scored by a network that never saw it"
    )
    assert told(Interval(54.2, 53, 55, 101), folds=False) == "54 ± 1 from 101 masks"
    assert told(Interval(54.2, 53.9, 54.6, 101), folds=False) == "54.2 ± 0.4 from 101 masks"  # not ± 0
    assert told(number, folds=False, whole=True) == "54 ± 17 from 4 masks"
    assert told(number, folds=False, masks=4) == "54 ± 17 from 4 masks: --folds 4 gives a number to rely on"
    assert told(number, folds=False, masks=2) == "54 ± 17 from 4 masks"
    assert answer(Interval(3.1, 1.2, 5.0, 20)) == "yes, +3.1 [1.2, 5.0]"
    assert answer(Interval(0.4, -2.1, 3.0, 8)) == "cannot be told from 8 masks: +0.4 [-2.1, 3.0]"
    assert answer(Interval(0.02, 0.01, 0.04, 101)) == "cannot be told from 101 masks: +0.0 [0.0, 0.0]"
    assert isnan(expanded_percentiles(np.zeros(10), 2)[0])
