"""What held-out masks tell: of pseudo-labels which threshold to move, and of masks which to doubt."""

from dataclasses import replace

import numpy as np
import pytest

from prevmatch.config import TrainConfig
from prevmatch.studies.held_out import BINS, HeldOut, Said
from prevmatch.studies.pseudo_labels import accepted_and_precision, advice, quality
from prevmatch.studies.suspicious import contradictions, ranking

NAMES = ("ground", "cross", "ring")
CONFIG = TrainConfig(method="mean_teacher", confidence_threshold=0.9, previous_threshold=0.9)


def said(*entries):
    """Pixels as (confidence, true class, class said, how many)."""
    counts = np.zeros((BINS, 3, 3), dtype=np.int64)
    for confidence, true, label, number in entries:
        counts[round(confidence * BINS), true, label] += number
    return Said(counts)


def test_accepted_share_and_precision_by_hand():
    guide = said((0.95, 0, 0, 60), (0.95, 1, 0, 20), (0.6, 0, 0, 20), (0.95, 1, 1, 30), (0.5, 1, 1, 70))
    share, right = accepted_and_precision(guide, 0.9)
    assert share[:2] == pytest.approx([80, 30])
    assert right[:2] == pytest.approx([75, 100])
    assert np.isnan(right[2])
    assert (share[-1], right[-1]) == pytest.approx((55, 100 * 90 / 110))
    told = quality(HeldOut(NAMES, (), {"teacher": guide}), CONFIG)["guides"]["teacher"]["at"]["0.9"]
    assert told["classes"]["ground"] == {"accepted": 80.0, "precision": 75.0}
    assert told["classes"]["ring"] == {"accepted": None, "precision": None}


def test_threshold_is_to_be_lowered_where_precision_holds_up():
    guide = said(
        (0.95, 0, 0, 95), (0.95, 1, 0, 5), (0.72, 0, 0, 96), (0.72, 1, 0, 4), (0.52, 0, 0, 50), (0.52, 1, 0, 50)
    )
    (line,) = advice(HeldOut(NAMES, (), {"previous": guide}), CONFIG)[:1]
    assert line.startswith(
        "pseudo-labels by its earlier versions: 95 % of those that count are right, and 96 % down to a confidence of "
        "0.7, where 67 %"
    )
    assert line.endswith("try --previous_threshold 0.7")


def test_threshold_is_to_be_raised_where_little_of_what_counts_is_right():
    guide = said((0.92, 0, 0, 50), (0.92, 0, 1, 50), (0.98, 0, 0, 99), (0.98, 0, 1, 1))
    assert advice(HeldOut(NAMES, (), {"teacher": guide}), CONFIG) == [
        "pseudo-labels by its moving average: only 74 % of those that count are right, and 99 % from a confidence of "
        "0.95 on, where 50 % of the pixels count: try --confidence_threshold 0.95"
    ]


def test_guide_that_is_wrong_at_any_threshold_is_said_to_be_so():
    guide = said((0.92, 0, 0, 50), (0.92, 0, 1, 50), (0.98, 1, 1, 5), (0.98, 1, 0, 5))
    assert advice(HeldOut(NAMES, (), {"teacher": guide}), CONFIG) == [
        "pseudo-labels by its moving average: only 50 % of those that count are right, at no threshold clearly more: "
        "label more photos"
    ]


def test_class_that_is_called_otherwise_is_told():
    guide = said((0.95, 0, 0, 900), (0.95, 1, 0, 70), (0.95, 1, 1, 30))
    (line,) = advice(HeldOut(NAMES, (), {"student": guide}), CONFIG)
    assert line.startswith(
        "pseudo-labels by the network itself: of cross 70 % of those that count say something else, mostly ground"
    )


def test_a_setting_that_is_on_already_is_not_advised():
    guide = said((0.95, 0, 0, 900), (0.95, 1, 0, 70), (0.95, 1, 1, 30))
    (fixed,) = advice(HeldOut(NAMES, (), {"student": guide}), CONFIG)
    (classwise,) = advice(HeldOut(NAMES, (), {"student": guide}), replace(CONFIG, threshold_kind="classwise"))
    assert fixed.endswith("label more of cross, or try --threshold_kind classwise")
    assert classwise.endswith("label more of cross")


def test_nothing_is_advised_where_nothing_asks_for_it():
    assert (
        advice(HeldOut(NAMES, (), {"teacher": said((0.95, 0, 0, 95), (0.95, 1, 1, 95), (0.5, 0, 1, 10))}), CONFIG)
        == []
    )


def doubtful():
    """Ten images whose masks are right, one with two classes swapped and one whose contradictions are unsure."""
    images = {f"good{i}": said((0.9, 0, 0, 80), (0.8, 1, 1, 20), (0.95, 0, 1, 1)) for i in range(10)}
    images["swapped"] = said((0.9, 1, 0, 80), (0.9, 0, 1, 20))
    images["hard"] = said((0.5, 0, 1, 60), (0.6, 1, 1, 40))
    certain = np.array([[0.9 * 800, 0.8 * 200, 0], [800, 200, 0]])
    return HeldOut(NAMES, (), {}, images, certain)


def test_mask_with_swapped_classes_is_the_most_doubtful_and_an_unsure_network_doubts_nothing():
    found = contradictions(doubtful())
    assert next(iter(found)) == "swapped"
    assert found["swapped"][0] == pytest.approx(100)
    assert found["hard"][0] == 0
    rows = ranking(doubtful())
    assert rows[0]["why"] == "labelled cross, looks like ground: 80.0 % of it"
    assert rows[-1]["why"] == "as expected"
    assert [row["image"] for row in rows] == [row["image"] for row in ranking(doubtful())]


def test_what_is_said_of_no_counting_label_depends_on_how_sure_any_is():
    held = HeldOut(NAMES, (), {"teacher": said((0.3, 0, 0, 97), (0.6, 0, 0, 3))})
    assert advice(held, CONFIG)[0].endswith("none counts, for hardly any is as sure as 0.5; train longer (--steps)")
    held = HeldOut(NAMES, (), {"teacher": said((0.3, 0, 0, 50), (0.75, 0, 0, 50))})
    assert advice(held, CONFIG)[0].endswith("none is as sure as 0.9, so none counts; lower --confidence_threshold")
    assert advice(held, replace(CONFIG, threshold_kind="classwise", threshold_floor=0.7)) == []
