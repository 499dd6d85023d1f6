"""Folds: every mask in one of them, every class in as many as it can be, a scene in one."""

import io

import numpy as np
import pytest
from PIL import Image

from prevmatch.data.folds import divide
from prevmatch.data.scenes import looks_of, scenes
from prevmatch.data.sources import table


def looks(count, seed=0):
    return np.random.default_rng(seed).random((count, 256)) < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_every_class_is_in_as_many_folds_as_it_can_be_and_folds_are_even(seed):
    rng = np.random.default_rng(seed)
    there = rng.random((23, 5)) < [1, 0.6, 0.3, 0.2, 0.1]
    fold = divide(there, np.arange(23), 5, seed=seed)
    assert sorted(np.unique(fold)) == [1, 2, 3, 4, 5]
    assert np.ptp(np.bincount(fold)[1:]) <= 1
    assert [len(np.unique(fold[there[:, c]])) for c in range(5)] == [min(5, there[:, c].sum()) for c in range(5)]
    assert np.array_equal(divide(there, np.arange(23), 5, seed=seed), fold)


def test_another_seed_gives_other_folds():
    there = np.ones((20, 2), dtype=bool)
    assert not np.array_equal(*(divide(there, np.arange(20), 5, seed=seed) for seed in (0, 1)))


def test_scene_stays_in_one_fold():
    scene = np.repeat(np.arange(10), [1, 2, 3, 1, 2, 3, 2, 2, 2, 2])
    fold = divide(np.random.default_rng(0).random((20, 3)) < 0.7, scene, 4, seed=0)
    assert all(len(np.unique(fold[scene == number])) == 1 for number in range(10))
    assert np.ptp(np.bincount(fold)[1:]) <= 2


def test_one_scene_of_all_masks_is_cut_into_stretches():
    fold = divide(np.ones((10, 2), dtype=bool), np.zeros(10, dtype=int), 5, seed=0)
    assert all(fold[2 * i] == fold[2 * i + 1] for i in range(5))
    assert len(np.unique(fold)) == 5


def test_names_that_count_frames_tell_scenes_and_mere_numbers_do_not():
    assert scenes(["drive_frame_01", "drive_frame_02", "park_frame_01"], looks(3)).tolist() in ([0, 0, 1], [1, 1, 0])
    assert len(set(scenes(["video1/a", "video1/b", "video2/a"], looks(3)))) == 2
    assert len(set(scenes([f"IMG_{i:04d}" for i in range(6)], looks(6)))) == 6
    assert len(set(scenes([f"Abyssinian_{i}" for i in range(3)] + [f"Bengal_{i}" for i in range(3)], looks(6)))) == 6
    assert len(set(scenes([f"frame_{i}" for i in range(6)], looks(6)))) == 6  # one video alone divides nothing
    assert scenes(["a.rf.12ab", "b.rf.3c", "a.rf.77"], looks(3)).tolist() in ([0, 1, 0], [1, 0, 1])


def test_pictures_that_look_alike_are_of_one_scene_whatever_they_are_called():
    seen = looks(4)
    seen[2] = seen[0]
    seen[2, :10] ^= True
    assert scenes(["a", "b", "c", "d"], seen).tolist() in (
        [1, 0, 1, 2],
        [2, 0, 2, 1],
        [0, 1, 0, 2],
        [1, 2, 1, 0],
        [2, 1, 2, 0],
        [0, 2, 0, 1],
    )
    similar = looks(2)
    similar[1] = similar[0]
    similar[1, :50] ^= True
    assert len(set(scenes(["drive_0012", "drive_0013"], similar))) == 1
    assert len(set(scenes(["house", "tree"], similar))) == 2


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def test_looks_survive_another_size_and_light_but_not_another_picture():
    rng = np.random.default_rng(0)
    one, other = (
        Image.fromarray(rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
        for _ in range(2)
    )
    brighter = (np.asarray(one.resize((80, 60))) * 0.8 + 40).astype(np.uint8)
    images = [np.asarray(one), np.asarray(other), brighter, np.full((30, 40, 3), 90, dtype=np.uint8)]
    ids = ["a", "b", "c", "d"]
    seen = looks_of(table(ids, [png(pixels) for pixels in images], [None] * 4))
    assert np.mean(seen[0] != seen[2]) < 0.08
    assert np.mean(seen[0] != seen[1]) > 0.25
    number = scenes(ids, seen)
    assert number[0] == number[2]
    assert len(set(number)) == 3
    assert len(set(scenes(["e", "f"], seen[[3, 3]]))) == 2  # smooth pictures look alike, whatever they show
