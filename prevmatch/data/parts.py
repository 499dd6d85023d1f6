"""The parts that people divide data into, and what becomes of each: a test part is never trained on."""

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

import datasets
import numpy as np

from prevmatch.config import DataConfig
from prevmatch.data.lists import first_five
from prevmatch.data.splits import has_mask
from prevmatch.errors import ConfigError, DataError

Role = Literal["train", "val", "test"]
ROLES: dict[str, Role] = {
    "train": "train", "training": "train", "trn": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "eval": "val", "validate": "val", "evaluation": "val", "test": "test", "tests": "test",
    "testing": "test", "holdout": "test",
}  # fmt: skip
BESIDE = {
    "set", "sets", "split", "part", "data", "dataset", "images", "image", "img", "imgs", "photos", "masks", "mask",
    "labels", "label", "annotations", "annot", "gt", "list", "lists", "files", "names", "ids", "dir", "ann", "final",
    "public", "private", "hidden", "seen", "unseen", "new", "old", "my", "own", "std", "standard", "full", "mini",
    "small", "large", "hard", "easy", "challenge", "phase", "release", "ood", "id", "real", "clean", "extra", "only",
    "blind", "external", "internal", "independent", "labeled", "labelled", "tiles", "crops", "patches", "frames",
    "rgb", "color", "colour", "grey", "gray", "autosplit", "jpg", "jpegs", "png", "tif", "samples",
}  # fmt: skip
"""Words that say no more about what a part is for, as single letters and numbers do."""
BEGINNINGS = ("train", "training", "val", "validation", "test", "tests", "testing", "holdout")
JOINED = re.compile(f"({'|'.join(ROLES)})(set|split|data|images|imgs|photos|list)")


def role_of(part: str, *, begins: bool = True) -> Role | None:
    """What a part of that name (`val`, `Test images`, `train2017`, `testA`) is for; None if the name does not say.

    A name of a test and a validation part (`test-dev`) is a test's. Unless `begins` is off, what a name begins with
    goes whatever follows (`test_site_b`): a test is better left out, and said to be, than trained on.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part).lower()
    words = re.split(r"[\W\d_]+", JOINED.sub(r"\1 \2", re.sub(r"h[eo]ld[\W_]?out", "holdout", spaced)))
    found = {ROLES[word] for word in words if word in ROLES}
    if begins and words[0] in BEGINNINGS and found == {ROLES[words[0]]}:
        return ROLES[words[0]]
    if not all(len(word) < 2 or word in ROLES or word in BESIDE for word in words):
        return None
    return "test" if found == {"val", "test"} else found.pop() if len(found) == 1 else None


def part_in(path: str) -> str:
    """The first folder of a path that is called as a part; "" if none is."""
    return next((part for part in PurePosixPath(path).parts[:-1] if role_of(part)), "")


def part_in_words(path: str) -> str:
    """The word for a part in the names of a path, wherever it stands in them; "" for none, or several parts."""
    said = [word for word in re.split(r"[\W\d_]+", path) if word.lower() in ROLES]
    return said[0] if len({ROLES[word.lower()] for word in said}) == 1 else ""


def divide(
    parts: dict[str, datasets.Dataset], config: DataConfig, *, evaluated: bool = False
) -> tuple[datasets.Dataset, datasets.Dataset | None, list[str]]:
    """The images to train on, those to validate on (None: not set apart) and what was done with each part.

    `val_part` and `train_parts` of the settings go before what names mean. A test part is left out, unless it has no
    mask at all: then it is no test, and its images are unlabelled ones. Data that is only `evaluated` may lack a part
    for training, and its test part with masks is validated on where no other is.
    Raises DataError for a validation part without masks, ConfigError for parts that are not there.
    """
    named = {*config.train_parts, *([config.val_part] if config.val_part else ())}
    if missing := sorted(named - set(parts)):
        raise ConfigError(f"the data has no part {missing[0]!r}; its parts are {', '.join(filter(None, parts))}")
    if evaluated and config.val_part is None and not any(role_of(name) == "val" for name in parts):
        tests = (name for name, rows in parts.items() if role_of(name) == "test" and any(has_mask(rows)))
        config = replace(config, val_part=next((name for name in tests if name not in config.train_parts), None))
    if not (evaluated or named) and not any(
        role_of(name) in (None, "train", "val") or role_of(name, begins=False) for name in parts
    ):
        parts = {"": datasets.concatenate_datasets(list(parts.values()))}  # all are called `test bench` or the like
    pool, val, notes = [], [], []
    for name, rows in parts.items():
        masked = np.flatnonzero(has_mask(rows))
        role, count = role_of(name), f"part {name}: {len(rows)} images, {len(masked)} with a mask"
        if name == config.val_part or (role == "val" and config.val_part is None and name not in config.train_parts):
            if not len(masked):
                raise DataError(
                    f"part {name} has {len(rows)} images ({first_five(rows['id'])}), none with a mask, so there is "
                    f"nothing to validate on; give it masks of the same names, or use --train_parts {name}"
                )
            val.append(rows.select(masked))
            what = "for validation" + (
                f"; {len(rows) - len(masked)} without a mask are left out" * (len(masked) < len(rows))
            )
        elif role in (None, "train") or name in config.train_parts:
            pool.append(rows)
            what = "for training"
        elif len(masked) or role == "val":
            what = f"left out; --val_part {name} validates on it, --train_parts {name} trains on it"
            if role_of(name, begins=False) is None:
                count = f"WARNING: as its name begins so, {count}"
        else:
            pool.append(rows)
            what = "which test nothing: they join the unlabelled ones"
        if len(parts) > 1:
            notes.append(f"{count}, {what}" if name else f"in no part: {count.partition(': ')[2]}, {what}")
    if not pool and evaluated and val:
        pool.append(val[0].select([]))
    if not pool:
        raise DataError(f"of the parts {', '.join(parts)} none is for training; call one train, or use --train_parts")
    joined = datasets.concatenate_datasets(pool)
    return joined, datasets.concatenate_datasets(val) if val else None, notes
