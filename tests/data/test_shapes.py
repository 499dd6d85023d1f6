import numpy as np

from prevmatch.data.reading import read_pair
from prevmatch.data.shapes import CLASSES, draw_scene, load_shapes


def test_scenes_are_the_same_for_the_same_seed():
    one, two, other = load_shapes(2, 1), load_shapes(2, 1), load_shapes(2, 1, seed=1)
    assert one.train[1] == two.train[1]
    assert one.train[1] != other.train[1]


def test_training_and_validation_scenes_differ(tiny_source):
    assert tiny_source.train[0]["image"] != tiny_source.val[0]["image"]


def test_every_class_occurs_and_no_other_id(tiny_source):
    ids = {i for row in tiny_source.train for i in np.unique(read_pair(row, tiny_source)[1])}
    assert ids == set(range(len(CLASSES)))


def test_objects_differ_from_the_ground():
    image, mask = draw_scene(np.random.default_rng(0))
    assert image.shape == (80, 80, 3)
    assert mask.shape == (80, 80)
    assert image.std() > 20
    assert 0.1 < (mask > 0).mean() < 0.9
