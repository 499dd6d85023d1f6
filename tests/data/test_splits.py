import datasets
import numpy as np
import pytest

from prevmatch.config import DataConfig, TrainConfig
from prevmatch.data.from_settings import labelled_ids, load_training_data
from prevmatch.data.reading import read_mask
from prevmatch.data.splits import amount, draw, every_nth, has_mask, select
from prevmatch.errors import ConfigError, DataError


def test_every_nth_starts_with_the_first_of_the_sorted_names():
    assert every_nth(["d", "b", "a", "c", "e"], "1_2") == ["a", "c", "e"]
    assert every_nth(["b", "a"], "1/2") == ["a"]


@pytest.mark.parametrize("name", ["2_16", "1_0", "sixteenth", "", "1_16/../x"])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="must be 1_N"):
        every_nth(["a"], name)


def test_parts_are_disjoint_and_complete(tiny_source):
    labelled, unlabelled = select(tiny_source.train, ["train_0003", "train_0000"])
    assert labelled["id"] == ["train_0003", "train_0000"]
    assert sorted([*labelled["id"], *unlabelled["id"]]) == tiny_source.train["id"]


def test_named_unlabelled_images_are_all_that_is_unlabelled(tiny_source):
    _, unlabelled = select(tiny_source.train, ["train_0003"], ["train_0005", "train_0001"])
    assert unlabelled["id"] == ["train_0001", "train_0005"]
    with pytest.raises(DataError, match="1 images in both of its lists: 'train_0003'"):
        select(tiny_source.train, ["train_0003"], ["train_0005", "train_0003"])


def test_ids_that_are_not_in_the_data_are_named(tiny_source):
    with pytest.raises(DataError, match=r"6 images that the data does not have: 'x0', .*'x4', …"):
        select(tiny_source.train, ["train_0000", *(f"x{i}" for i in range(6))])


def test_ids_that_two_images_share_are_named(tiny_source):
    twice = datasets.concatenate_datasets([tiny_source.train, tiny_source.train.select([3])])
    with pytest.raises(DataError, match="1 images have the id of another: 'train_0003'"):
        select(twice, ["train_0000"])


def test_a_split_without_labelled_images_is_refused(tiny_source):
    with pytest.raises(DataError, match="no labelled image"):
        select(tiny_source.train, [])


def test_all_images_may_be_labelled(tiny_source):
    labelled, unlabelled = select(tiny_source.train, tiny_source.train["id"])
    assert labelled["id"] == tiny_source.train["id"]
    assert unlabelled["id"] == []
    assert unlabelled.features == labelled.features


@pytest.fixture
def few_shapes(monkeypatch, tiny_source):
    monkeypatch.setattr("prevmatch.data.shapes.load_shapes", lambda: tiny_source)


@pytest.mark.parametrize("settings", [{}, {"labelled": "100%"}, {"split": "1_1"}])
def test_every_way_of_labelling_all_images_divides(few_shapes, settings):
    data = load_training_data(DataConfig(dataset="shapes", **settings))
    assert (len(data.labelled), len(data.unlabelled)) == (8, 0)


def test_labelled_image_without_mask_is_named(tiny_source):
    bare = tiny_source.train.map(lambda row: {"mask": None})
    assert has_mask(bare) == [False] * 8
    with pytest.raises(DataError, match="'train_0001' labelled without a mask"):
        select(bare, ["train_0001"])


@pytest.mark.parametrize(("wanted", "count"), [("5%", 10), ("0.1%", 1), ("100", 100), ("100%", 200), ("12.5 %", None)])
def test_amount_is_a_number_or_a_share(wanted, count):
    if count is None:
        with pytest.raises(ConfigError, match="number of images"):
            amount(wanted, 200)
    else:
        assert amount(wanted, 200) == count


@pytest.mark.parametrize("wanted", ["0", "201", "101%", "-3", "many", "1.5", "nan%"])
def test_impossible_amounts_are_refused(wanted):
    with pytest.raises(ConfigError, match="labelled is"):
        amount(wanted, 200)


def test_draw_shows_every_class_although_one_is_rare():
    presence = np.zeros((100, 3), dtype=bool)
    presence[:, 0] = True
    presence[::10, 1] = True
    presence[57, 2] = True
    for seed in range(20):
        chosen = draw(presence, 4, seed=seed)
        assert len(set(chosen.tolist())) == 4
        assert presence[chosen].any(0).all()


def test_draw_prefers_images_with_many_classes_where_places_are_few():
    presence = np.zeros((50, 6), dtype=bool)
    presence[np.arange(48), np.arange(48) % 6] = True
    presence[48, :3] = presence[49, 3:] = True
    for seed in range(10):
        assert draw(presence, 2, seed=seed).tolist() == [48, 49]


def test_draw_follows_its_seed():
    presence = np.random.default_rng(0).random((60, 4)) < 0.3
    assert draw(presence, 9, seed=3).tolist() == draw(presence, 9, seed=3).tolist()
    assert len({tuple(draw(presence, 9, seed=seed)) for seed in range(10)}) == 10


def test_draw_without_any_class_is_random():
    assert len(draw(np.zeros((5, 2), dtype=bool), 3, seed=0)) == 3


def test_labelled_draws_by_split_seed_and_not_by_seed(few_shapes):
    draws = [
        load_training_data(TrainConfig(dataset="shapes", labelled="3", split_seed=split_seed, seed=seed))
        for split_seed, seed in ((0, 0), (0, 1), (1, 0))
    ]
    ids = [data.labelled["id"] for data in draws]
    assert ids[0] == ids[1] != ids[2]
    assert len(set(ids[0])) == 3
    assert draws[0].source.notes[-1].startswith("drew 3 of 8 masks, split_seed 0")


def test_classes_that_a_draw_leaves_out_are_named(few_shapes):
    data = load_training_data(DataConfig(dataset="shapes", labelled="1"))
    shown = set(np.unique(read_mask(data.labelled[0], data.source)).tolist())
    note = data.source.notes[-1]
    for label, name in enumerate(data.source.class_names):
        assert (name in note) == (label not in shown)


def test_without_split_every_mask_counts(tiny_source):
    assert labelled_ids(tiny_source, DataConfig(dataset="shapes"))[0] == tiny_source.train["id"]
