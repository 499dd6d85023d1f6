import dataclasses
from itertools import pairwise

import pytest
from conftest import TINY

from prevmatch.schedule import cosine, learning_rate, poly, triangle


def test_learning_rate_starts_twice_at_base_and_ends_above_zero():
    rates = [poly(t, 10, 0.1) for t in range(10)]
    assert rates[0] == rates[1] == 0.1
    assert all(a > b > 0 for a, b in pairwise(rates[1:]))


@pytest.mark.parametrize("epochs", [1, 2, 7, 80])
def test_guidance_weight_starts_at_zero_and_stays_within_one(epochs):
    weights = [triangle(e, epochs) for e in range(epochs)]
    assert weights[0] == 0
    assert all(0 <= w <= 1 for w in weights)


def test_guidance_weight_peaks_half_way():
    assert [triangle(e, 8) for e in range(8)] == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]


def test_cosine_falls_from_base_through_half_towards_zero():
    rates = [cosine(t, 10, 0.1) for t in range(10)]
    assert rates[0] == 0.1
    assert rates[5] == pytest.approx(0.05)
    assert all(a > b > 0 for a, b in pairwise(rates))


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_warm_up_rises_to_the_schedule_and_then_leaves_it_alone(schedule):
    plain = dataclasses.replace(TINY, lr=0.1, lr_schedule=schedule)
    warm = dataclasses.replace(plain, warmup_steps=4)
    shares = [learning_rate(t, 10, warm) / learning_rate(t, 10, plain) for t in range(10)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])
    assert learning_rate(3, 10, plain) == {"poly": poly, "cosine": cosine}[schedule](3, 10, 0.1)
