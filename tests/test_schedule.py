from itertools import pairwise

import pytest

from prevmatch.schedule import poly, triangle


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
