"""A user's own data: any folder of images with some masks, or any data set of the Hub, made ready for training."""

import dataclasses
import hashlib
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np

from prevmatch.config import IGNORE_INDEX, DataConfig
from prevmatch.data.colours import palette_colours, read_colours
from prevmatch.data.layouts import Found, find, meaning_of
from prevmatch.data.lists import first_five
from prevmatch.data.sources import Source
from prevmatch.data.splits import draw, has_mask
from prevmatch.data.survey import pixel_counts, value_counts
from prevmatch.data.tables import BARE, TRAIN, VAL, classes_of, is_table, load_parts, palette_of, part_of
from prevmatch.errors import ConfigError, DataError

MOST_CLASSES = 100
"""Masks with more different values and no list of classes are taken for pictures."""


def load_custom(config: DataConfig) -> Source:
    """Find the images and masks that the settings name, learn what the masks mean, and hold validation images out.

    Raises DataError or ConfigError where the data cannot be trained on; `notes` tell what was found.
    """
    found = _find(config)
    masked = np.flatnonzero(has_mask(found.pool))
    if not len(masked):
        raise DataError("no image has a mask; label some of the images first")
    val = None if found.val is None else found.val.select(np.flatnonzero(has_mask(found.val)))
    labelled = found.pool.select(masked)
    source, counts = _understood(found, labelled if val is None else datasets.concatenate_datasets([labelled, val]))
    train = found.pool
    if val is None:
        held_out = masked[_held_out(counts > 0, config.val_share, config.split_seed)]
        train, val = train.select(np.delete(np.arange(len(train)), held_out)), train.select(held_out)
    notes = (f"layout: {found.layout}", *found.notes, *source.notes, *_identical(train, val))
    return dataclasses.replace(source, train=train, val=val, notes=notes)


def _find(config: DataConfig) -> Found:
    if config.dataset_name is None and config.data_dir is None:
        raise ConfigError("custom data needs --data_dir FOLDER or --dataset_name NAME")
    if config.dataset_name is not None or is_table(Path(config.data_dir or "")):
        found = _table(str(config.dataset_name or config.data_dir), config)
    else:
        assert config.data_dir is not None
        found = find(config.data_dir)
    if config.mask_colours in ("voc", "cityscapes"):
        found.colours = tuple(palette_colours(config.mask_colours).items())
        found.palette = tuple(colour for colour, label in found.colours if label != IGNORE_INDEX)
        found.class_names = found.class_names or _published_names(config.mask_colours)
    elif config.mask_colours is not None:
        found.class_names, found.palette, found.colours = meaning_of(read_colours(Path(config.mask_colours)))
    return found


def _published_names(palette: str) -> tuple[str, ...]:
    from prevmatch.data import cityscapes, pascal

    return pascal.CLASSES if palette == "voc" else cityscapes.CLASSES


def _table(name: str, config: DataConfig) -> Found:
    parts = load_parts(name, config.image_column, config.mask_column)
    train, val, bare = (part_of(parts, names) for names in (TRAIN, VAL, BARE))
    if train is None:
        raise DataError(f"data set {name!r} has the parts {', '.join(parts)}, none of them called train")
    pool = train if bare is None else datasets.concatenate_datasets([train, bare])
    names = classes_of(train)
    palette = palette_of(train, len(names)) if names else ()
    return Found(pool=pool, val=val, class_names=names, palette=palette, layout=f"data set {name}")


def _understood(found: Found, masked: datasets.Dataset) -> tuple[Source, np.ndarray]:
    """A source whose class ids are settled, by the folder or else by what the masks hold; and its pixels per class.

    The counts are int64 (N, C) for the rows of `masked`.
    """
    names, label_map = found.class_names, None
    told: tuple[str, ...] = ()
    if settled := bool(names) and (found.colours or found.annotated):
        palette = found.palette
    else:
        values = value_counts(masked)
        names, label_map, told = classes_in(np.flatnonzero(values.sum(0)), names)
        palette = found.palette or palette_of(masked, len(names))
    source = Source(
        train=found.pool, val=masked, class_names=names, palette=palette, label_map=label_map, colours=found.colours
    )
    if settled:
        counts = pixel_counts(masked, source)
    else:
        meaning = np.arange(256) if label_map is None else np.array(label_map)
        counts = np.stack([values[:, meaning == label].sum(1) for label in range(len(names))], axis=1)
    shares = 100 * counts.sum(0) / max(1, counts.sum())
    lines = (
        f"class {i:>3} {name:<20} {shares[i]:5.1f} % of the pixels, "
        f"in {(counts[:, i] > 0).sum()} of {len(masked)} masks"
        for i, name in enumerate(names)
    )
    return dataclasses.replace(source, notes=(*told, *lines)), counts


def classes_in(
    values: np.ndarray, names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[int, ...] | None, tuple[str, ...]]:
    """Class names, the class id of each stored value (None: itself), and what to tell, from the values in the masks.

    Raises DataError if the values cannot be class ids, or are more than the named classes.
    """
    found = [int(value) for value in values if value != IGNORE_INDEX]
    if IGNORE_INDEX in values and found in ([], [0]) and len(names) in (0, 2):
        names = names or ("background", "foreground")
        told = f"the masks hold only 0 and 255: 255 is read as the class {names[1]!r}, not as ignored"
        return names, (0, *(IGNORE_INDEX for _ in range(254)), 1), (told,)
    if not found:
        raise DataError("every pixel of every mask is 255, which means ignored; training needs a pixel of some class")
    if names:
        if found[-1] >= len(names):
            raise DataError(
                f"the masks hold the value {found[-1]}, but {len(names)} classes are named (0..{len(names) - 1}); "
                "complete the list of classes or correct the masks"
            )
        return names, None, ()
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(found)} different values, more like grey pictures than class ids; if they are ids, "
            "name the classes in classes.txt"
        )
    if found == [0, 1]:
        return ("background", "foreground"), None, ("classes found in the masks: 0 and 1",)
    told = f"classes found in the masks: {', '.join(map(str, found))}; name them in classes.txt, one a line"
    mapping = tuple(found.index(value) if value in found else IGNORE_INDEX for value in range(256))
    return tuple(f"class_{value}" for value in found), mapping, (told,)


def _held_out(presence: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of presence bool (N, C) that are kept for validation; the others keep every class if they can."""
    if len(presence) < 2:
        raise DataError("only one image has a mask; two are needed, one to learn from and one to validate on")
    count = min(len(presence) - 1, max(1, round(share * len(presence))))
    return np.delete(np.arange(len(presence)), draw(presence, len(presence) - count, seed=seed))


def _identical(train: datasets.Dataset, val: datasets.Dataset) -> list[str]:
    """A warning if validation images are also training images, byte by byte."""
    by_size = defaultdict(list)
    for row in train.select_columns(["id", "image"]):
        by_size[_size(row["image"])].append(row)
    pairs = []
    for row in val.select_columns(["id", "image"]):
        alike = by_size.get(_size(row["image"]), [])
        digest = _digest(row["image"]) if alike else None
        pairs += [f"{row['id']} = {other['id']}" for other in alike if _digest(other["image"]) == digest]
    if not pairs:
        return []
    return [f"WARNING: {len(pairs)} validation images are training images too, so scores flatter: {first_five(pairs)}"]


def _size(cell: dict) -> int:
    return len(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).stat().st_size


def _digest(cell: dict) -> bytes:
    content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
    return hashlib.sha256(content).digest()
