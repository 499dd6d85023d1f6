"""A user's own data: any folder of images with some masks, or any data set of the Hub, made ready for training."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np

from prevmatch.config import IGNORE_INDEX, DataConfig
from prevmatch.data import tables
from prevmatch.data.colours import meaning_of, palette_colours, read_colours
from prevmatch.data.found import Found
from prevmatch.data.layouts import find
from prevmatch.data.lists import first_five
from prevmatch.data.meaning import understand
from prevmatch.data.merging import merge
from prevmatch.data.parts import divide
from prevmatch.data.sources import RGB, Source
from prevmatch.data.splits import draw, has_mask
from prevmatch.data.survey import colours_in, orientation, photo_bits
from prevmatch.data.verify import Seen, alike, see
from prevmatch.errors import ConfigError, DataError

FEWEST_COUNTED = 6
"""Values from which on masks with all of them up to some number seem to count objects."""


def load_custom(config: DataConfig, *, known: tuple[str, ...] = ()) -> Source:
    """Find the images and masks that the settings name, learn what the masks mean, and hold validation images out.

    `known` are the classes of a finished model that is to be evaluated: masks are read by them, nothing is held out,
    and without a validation part every mask validates.
    Raises DataError or ConfigError where the data cannot be read so; `notes` tell what was found.
    """
    found = _find(config)
    try:
        return _made_ready(found, config, known)
    except DataError as error:
        raise with_notes(error, found.notes) from error


def with_notes(error: DataError, notes: Iterable[str]) -> DataError:
    """An error and what was said before about the data, for that may be its reason."""
    return DataError("; ".join([str(error), *notes]))


def _made_ready(found: Found, config: DataConfig, known: tuple[str, ...]) -> Source:
    pool, val, told = divide(found.parts, config, evaluated=bool(known))
    found.notes += told
    looks = {} if known else _look(pool, val)
    pool, told = _readable(pool, looks, config)
    found.notes += told
    masked = np.flatnonzero(has_mask(pool))
    if not len(masked) and (val is None or not known):
        raise DataError("no image has a mask; label some of the images first")
    every = pool.select(masked) if val is None else datasets.concatenate_datasets([pool.select(masked), val])
    named = () if config.merge_classes or config.ignore_classes else known  # those are the names after merging
    source, counts = understand(found, every, config, named)
    if found.tagged and not tables.tags_agree(every, counts):
        found.notes.append("the column classes has tags of the images, not the classes in their masks; it is not used")
        found = dataclasses.replace(found, class_names=(), palette=(), tagged=False)
        (pool, val, every) = (rows and rows.remove_columns("classes") for rows in (pool, val, every))
        source, counts = understand(found, every, config, named)
    source, counts = merge(source, counts, config)
    how, turned = orientation(every)
    bits, stretched = photo_bits(pool if len(pool) else every)
    if val is None and known:
        pool, val = pool.select([]), every
    elif val is None:
        held_out = masked[_held_out(counts[:, :-1] > 0, config.val_share, config.split_seed)]
        pool, val = pool.select(np.delete(np.arange(len(pool)), held_out)), pool.select(held_out)
        found.notes.append(
            f"{len(val)} of {len(masked)} masks are held out for validation, split_seed {config.split_seed}"
        )
    doubts = _copies(pool, val, looks) if looks else []
    if several := [name for name, seen in looks.items() if seen.pages > 1]:
        doubts.append(
            f"WARNING: {len(several)} photos have several pages or frames, of which the first one counts: "
            f"{first_five(several)}"
        )
    doubts += _masks_among_photos(pool, looks) + _nearly_equal(source.class_names)
    if not found.class_names:
        doubts += _counted_objects(counts[:, :-1] > 0)
    pixels = dict(zip(every["id"], counts, strict=True))
    there = np.any([pixels[name][:-1] for name in val["id"]], axis=0)
    if there.sum() == 1:
        lone = source.class_names[int(there.argmax())]
        doubts.append(f"WARNING: the validation masks hold one class, {lone!r}, so their score says next to nothing")
    return dataclasses.replace(
        source,
        train=pool,
        val=val,
        orientation=how,
        bits=bits,
        pixels=pixels,
        mean_of_occurring=True,
        notes=(
            f"layout: {found.layout}", *found.notes, *turned, *stretched, *source.notes, *doubts
        ),
    )  # fmt: skip


def _find(config: DataConfig) -> Found:
    if config.dataset_name is None and config.data_dir is None:
        raise ConfigError("custom data needs --data_dir FOLDER or --dataset_name NAME")
    if config.dataset_name is not None or tables.is_table(Path(config.data_dir or "")):
        found = tables.read(str(config.dataset_name or config.data_dir), config.image_column, config.mask_column)
    else:
        assert config.data_dir is not None
        chosen = config.split is not None or config.labelled is not None
        found = find(config.data_dir, config.mask_path, every_mask=chosen)
    if config.mask_colours in ("voc", "cityscapes"):
        found.colours = tuple(palette_colours(config.mask_colours).items())
        found.palette = tuple(colour for colour, label in found.colours if label != IGNORE_INDEX)
        found.class_names = found.class_names or _published_names(config.mask_colours)
    elif config.mask_colours is not None:
        own = _colours_of(found) if config.mask_colours == "found" else read_colours(Path(config.mask_colours))
        found.class_ids = ()
        found.class_names, found.palette, found.colours = meaning_of(own)
    return found


def _colours_of(found: Found) -> dict[str, RGB]:
    """The colours in all masks that were found, each as a class; what they are is noted."""
    rows = datasets.concatenate_datasets([*found.parts.values()])
    colours = colours_in(rows.select(np.flatnonzero(has_mask(rows))))
    found.notes.append(
        "each colour in the masks is a class; to name them, give --mask_colours a file with lines such as "
        f"`name: {', '.join(map(str, next(iter(colours.values()))))}`; --ignore_classes leaves some out"
    )
    return colours


def _published_names(palette: str) -> tuple[str, ...]:
    from prevmatch.data import cityscapes, pascal

    return pascal.CLASSES if palette == "voc" else cityscapes.CLASSES


def _held_out(presence: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of presence bool (N, C) that are kept for validation; the others keep every class if they can."""
    if len(presence) < 2:
        raise DataError("only one image has a mask; two are needed, one to learn from and one to validate on")
    counting = np.flatnonzero(presence.any(axis=1))  # a mask that is ignored throughout validates nothing
    if len(counting) < 2:
        raise DataError(f"of {len(presence)} masks {len(counting)} have a pixel that counts; two are needed")
    count = min(len(counting) - 1, max(1, round(share * len(presence))))
    return np.delete(counting, draw(presence[counting], len(counting) - count, seed=seed))


def _look(pool: datasets.Dataset, val: datasets.Dataset | None) -> dict[str, Seen]:
    """What is seen of every photo, by its id; DataError for one with a mask that cannot be read."""
    rows = pool if val is None else datasets.concatenate_datasets([pool, val])
    looks = dict(zip(rows["id"], see(rows), strict=True))
    for name, labelled in zip(rows["id"], has_mask(rows), strict=True):
        if labelled and looks[name].problem:
            raise DataError(looks[name].problem)
    return looks


def _readable(
    pool: datasets.Dataset, looks: dict[str, Seen], config: DataConfig
) -> tuple[datasets.Dataset, list[str]]:
    """The images without those that cannot be read, and what to tell; DataError for more than the settings allow."""
    ids = pool["id"][:]
    bad = [name for name in ids if looks and looks[name].problem]
    if not bad:
        return pool, []
    bare = has_mask(pool).count(False)
    if config.strict or len(bad) > config.unreadable_share * bare:
        limit = "--strict is set" if config.strict else f"--unreadable_share is {config.unreadable_share:g}"
        raise DataError(f"{len(bad)} of {bare} unlabelled photos cannot be read, and {limit}: {looks[bad[0]].problem}")
    kept = pool.select([i for i, name in enumerate(ids) if not looks[name].problem])
    return kept, [f"{len(bad)} unlabelled photos cannot be read and are left out: {first_five(bad)}"]


def _copies(pool: datasets.Dataset, val: datasets.Dataset, looks: dict[str, Seen]) -> list[str]:
    """A warning if validation images are training images too, or look like them."""
    if identical := _identical(pool, val):
        return identical
    ours, theirs = pool["id"][:], val["id"][:]
    pairs = alike([looks[name] for name in theirs], [looks[name] for name in ours])
    if not pairs:
        return []
    shown = first_five([f"{theirs[i]} ~ {ours[j]}" for i, j in pairs])
    return [f"WARNING: {len(pairs)} validation images look like training images, so scores flatter: {shown}"]


def _identical(train: datasets.Dataset, val: datasets.Dataset) -> list[str]:
    """A warning if validation images are also training images, byte by byte."""
    sizes = {_size(row["image"]) for row in val.select_columns(["image"])}
    by_content = defaultdict(list)
    for row in train.select_columns(["id", "image"]):
        if _size(row["image"]) in sizes:
            by_content[_digest(row["image"])].append(row["id"])
    rows = val.select_columns(["id", "image"]) if by_content else ()
    pairs = [f"{row['id']} = {other}" for row in rows for other in by_content.get(_digest(row["image"]), ())]
    if not pairs:
        return []
    return [f"WARNING: {len(pairs)} validation images are training images too, so scores flatter: {first_five(pairs)}"]


def _masks_among_photos(pool: datasets.Dataset, looks: dict[str, Seen]) -> list[str]:
    """A warning if unlabelled photos look like masks and no labelled one does."""
    flat: tuple[list[str], list[str]] = ([], [])
    for name, labelled in zip(pool["id"], has_mask(pool), strict=True):
        if name in looks and looks[name].flat:
            flat[labelled].append(name)
    if not flat[0] or flat[1]:
        return []
    return [
        f"WARNING: {len(flat[0])} unlabelled photos look like masks, few values in large areas; if so, move them "
        f"elsewhere: {first_five(flat[0])}"
    ]


def _counted_objects(presence: np.ndarray) -> list[str]:
    """A warning if each mask has all values up to some number, by its presence bool (N, C): it may count objects."""
    highest = presence.shape[1] - np.argmax(presence[:, ::-1], axis=1)  # columns up to the last one that is there
    whole = presence[:, 1:].sum(axis=1) == highest - 1
    if presence.shape[1] < FEWEST_COUNTED or len(set(highest.tolist())) < FEWEST_COUNTED - 2 or not whole.all():
        return []
    return [
        f"WARNING: each mask has all values from 1 to some number, up to {presence.shape[1] - 1}, as if it counted "
        "objects, and each number is read as a class; if all are of one class: --mask_threshold 1"
    ]


def _nearly_equal(names: Iterable[str]) -> list[str]:
    """A warning if names of classes differ in small and capital letters alone."""
    groups = defaultdict(list)
    for name in names:
        groups[name.strip().casefold()].append(name)
    return [
        f"WARNING: the classes {' and '.join(map(repr, same))} differ in their spelling alone; to join them: "
        f"--merge_classes {','.join(same)}={same[0].strip()}"
        for same in groups.values() if len(same) > 1
    ]  # fmt: skip


def _size(cell: dict) -> int:
    return len(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).stat().st_size


def _digest(cell: dict) -> bytes:
    content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
    return hashlib.sha256(content).digest()
