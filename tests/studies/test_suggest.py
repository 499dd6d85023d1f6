"""What to label next: where versions disagree about weak classes, and no two of a kind."""

import numpy as np
import pytest
import torch

from prevmatch.errors import ConfigError
from prevmatch.studies.suggest import Looked, choose, disagreement, spread, suggest


def photo(name, doubt, place=0, seed=0):
    """A photo, and what it looks like."""
    layout = np.zeros(16)
    layout[place % 16] = 1
    return Looked(name, np.array(doubt, dtype=float), layout), np.random.default_rng(seed).random(256) < 0.5


def chosen_of(photos, need, count):
    looked, looks = zip(*photos, strict=True)
    return choose(looked, need, count, np.array(looks))


def test_networks_that_say_the_same_do_not_disagree_however_unsure_they_are():
    unsure = torch.full((3, 4, 2, 2), 0.25)
    torch.testing.assert_close(disagreement(unsure), torch.zeros(2, 2), atol=1e-6, rtol=0)
    certain = torch.eye(2)[:, :, None, None]  # one says the first class, one the second, both for sure
    assert disagreement(certain).item() == pytest.approx(np.log(2), abs=1e-6)


def test_doubt_about_a_weak_class_counts_more():
    photos = [photo("a", [0.4, 0.0], 0, 1), photo("b", [0.0, 0.3], 1, 2)]
    assert chosen_of(photos, np.array([0.1, 0.9]), 1) == [1]
    assert chosen_of(photos, np.array([0.9, 0.1]), 1) == [0]


def test_neighbours_of_a_chosen_photo_wait():
    same_scene = [photo(f"clip_frame_{i}", [1.0 - i / 100], i, 1) for i in range(3)]
    same_layout = photo("b", [0.9], 0, 5)
    others = [photo("c", [0.5], 7, 6), photo("clip2_frame_1", [0.4], 8, 7)]
    photos = [*same_scene, same_layout, *others]
    chosen = chosen_of(photos, np.ones(1), 4)
    assert chosen[:3] == [0, 4, 5]
    assert chosen[3] == 3
    assert chosen_of(photos, np.ones(1), 6)[4:] == [1, 2]


def test_equal_photos_come_in_the_order_of_their_names():
    photos = [photo(name, [0.5], i, i) for i, name in enumerate("cab")]
    assert [photos[i][0].name for i in chosen_of(photos, np.ones(1), 3)] == ["a", "b", "c"]


def test_photos_that_are_looked_at_are_bounded_and_lie_evenly_by_name(tmp_path):
    names = [f"{i:03d}" for i in np.random.default_rng(0).permutation(100)]
    places = spread(names, 12)
    assert [names[i] for i in places] == [f"{9 * i:03d}" for i in range(12)]
    for wrong in ({"count": 0}, {"limit": -1}):
        with pytest.raises(ConfigError, match=rf"^{next(iter(wrong))} is -?\d but must be at least \d$"):
            suggest(tmp_path, tmp_path / "out", **wrong)


def test_page_of_somebody_is_refused_before_any_photo_is_looked_at(tmp_path):
    (tmp_path / "suggestions.html").touch()
    with pytest.raises(ConfigError, match=r"suggestions\.html is there and was not written by this command"):
        suggest(tmp_path / "no run", tmp_path)
