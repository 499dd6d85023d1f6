import pytest

from prevmatch.data.splits import every_nth, select
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


def test_id_that_is_not_in_the_data_is_named(tiny_source):
    with pytest.raises(DataError, match="'elsewhere'"):
        select(tiny_source.train, ["train_0000", "elsewhere"])


def test_empty_parts_are_refused(tiny_source):
    with pytest.raises(DataError, match="no labelled image"):
        select(tiny_source.train, [])
    with pytest.raises(DataError, match="no image is unlabelled"):
        select(tiny_source.train, tiny_source.train["id"])


def test_labelled_image_without_mask_is_named(tiny_source):
    bare = tiny_source.train.map(lambda row: {"mask": None})
    with pytest.raises(DataError, match="'train_0001' labelled, but it has no mask"):
        select(bare, ["train_0001"])
