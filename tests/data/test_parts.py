"""Parts by their names: what they are for, and that a test part is not trained on unless asked for."""

import pytest

from prevmatch.config import DataConfig
from prevmatch.data.parts import divide, part_in, role_of
from prevmatch.data.sources import table
from prevmatch.errors import ConfigError, DataError


def rows(name, masked, bare):
    ids = [f"{name}{i}" for i in range(masked + bare)]
    cell = {"path": "x.png", "bytes": None}
    return table(ids, [cell] * len(ids), [cell] * masked + [None] * bare)


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", "train Train TRAIN training train2017 training_set train-images trainset_"),
        ("val", "val valid validation Validation val2017 valid_set dev val_images eval valset val_A my_val"),
        (
            "test",
            "test Test testing test2017 test_images test-set holdout hold_out Hold-Out testset test_A testA "
            "test-dev public_test tests TestSet test_final "
            "test_site_b held_out heldout blind_test external-test test_512x512",
        ),
        ("val", "val_site_b validation-of-spring"),
        (None, "valid_site_b dev_kit"),
        (
            None,
            "site1 images contest latest training_val protest unlabelled attest extra_train_field crash_test 2017",
        ),
    ],
)
def test_role_of_a_part_follows_from_its_words(role, names):
    for name in names.replace("trainset_", "").split():
        assert role_of(name) == role, name


def test_a_path_is_in_the_first_part_that_it_names():
    assert [part_in(path) for path in ("a", "val/a", "site/test/a", "test/train/a", "x/val.png")] == [
        "", "val", "test", "test", "",
    ]  # fmt: skip


def test_each_part_is_used_for_what_its_name_says_and_that_is_said():
    parts = {"train": rows("t", 2, 3), "valid": rows("v", 2, 1), "test": rows("x", 2, 0), "extra": rows("e", 0, 2)}
    pool, val, notes = divide(parts, DataConfig())
    assert pool["id"] == ["t0", "t1", "t2", "t3", "t4", "e0", "e1"]
    assert val["id"] == ["v0", "v1"]
    assert [note.partition(":")[0] for note in notes] == ["part train", "part valid", "part test", "part extra"]
    assert "1 without a mask are left out" in notes[1]
    assert "left out; --val_part test validates on it, --train_parts test trains on it" in notes[2]


@pytest.mark.parametrize(
    ("settings", "trained", "validated"),
    [
        ({"train_parts": ("test",)}, "t0 t1 x0 x1", "v0"),
        ({"val_part": "test"}, "t0 t1", "x0 x1"),
        ({"val_part": "test", "train_parts": ("val",)}, "t0 t1 v0", "x0 x1"),
        ({"train_parts": ("val",)}, "t0 t1 v0", None),
    ],
)
def test_settings_go_before_names(settings, trained, validated):
    parts = {"train": rows("t", 2, 0), "val": rows("v", 1, 0), "test": rows("x", 2, 0)}
    pool, val, _ = divide(parts, DataConfig(**settings))
    assert sorted(pool["id"]) == trained.split()
    assert (val and val["id"]) == (validated and validated.split())


def test_test_part_without_masks_joins_the_unlabelled_ones():
    pool, val, notes = divide({"train": rows("t", 2, 0), "test": rows("x", 0, 2)}, DataConfig())
    assert pool["id"] == ["t0", "t1", "x0", "x1"]
    assert val is None
    assert "they join the unlabelled ones" in notes[1]


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_validation_part_without_masks_is_refused(name):
    with pytest.raises(DataError, match=f"part {name} has 2 images .*none with a mask"):
        divide({"train": rows("t", 2, 0), name: rows("v", 0, 2)}, DataConfig())


def test_parts_that_are_not_there_and_no_part_to_train_on_are_refused():
    with pytest.raises(ConfigError, match="no part 'holdout'; its parts are train, test"):
        divide({"train": rows("t", 2, 0), "test": rows("x", 1, 0)}, DataConfig(val_part="holdout"))
    with pytest.raises(DataError, match="none is for training"):
        divide({"test": rows("x", 1, 0), "val": rows("v", 1, 0)}, DataConfig())


def test_images_in_no_part_are_told_where_others_are_in_one():
    _, _, notes = divide({"test": rows("x", 2, 0), "": rows("o", 1, 2)}, DataConfig())
    assert notes[1] == "in no part: 3 images, 1 with a mask, for training"
    assert not divide({"": rows("o", 1, 2)}, DataConfig())[2]


def test_data_that_is_only_evaluated_is_validated_on_by_its_test_part_where_there_is_no_other():
    parts = {"train": rows("t", 2, 0), "test": rows("x", 2, 1)}
    for evaluated in (parts, {"test": parts["test"]}):
        assert divide(evaluated, DataConfig(), evaluated=True)[1]["id"] == ["x0", "x1"]
    assert divide(parts | {"val": rows("v", 1, 0)}, DataConfig(), evaluated=True)[1]["id"] == ["v0"]
    assert divide(parts, DataConfig(), evaluated=False)[1] is None
