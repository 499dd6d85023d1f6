"""What the values and colours in mask files mean, decided file by file and then for all: class names and ids."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import datasets
import numpy as np

from prevmatch.config import IGNORE_INDEX, DataConfig
from prevmatch.data.found import Found
from prevmatch.data.lists import first_five
from prevmatch.data.sources import RGB, Source
from prevmatch.data.survey import Look, grey_rows, looks, pixel_counts
from prevmatch.data.tables import palette_of
from prevmatch.errors import ConfigError, DataError

MOST_CLASSES = 100
"""Masks with more different values and no list of classes are taken for pictures."""
BINARY = ("background", "foreground")
LARGE_VALUE = 64
"""Ids of unnamed classes stay below, unless they are many; grey levels do not."""


def understand(
    found: Found, masked: datasets.Dataset, config: DataConfig, known: tuple[str, ...] = ()
) -> tuple[Source, np.ndarray]:
    """A source whose class ids are settled, by the folder or else by what the masks hold; and its pixels per class.

    The counts are int64 (N, C + 1) for the rows of `masked`, the last column for ignored pixels. Where nothing else
    names the classes, they are the `known` ones of a finished model.
    Raises DataError where files contradict each other or cannot be class ids.
    """
    names, told = found.class_names, []
    source = Source(train=masked, val=masked, class_names=names, palette=found.palette, colours=found.colours)
    if config.mask_threshold is not None:
        if found.annotated or found.colours:
            raise ConfigError("mask_threshold is for grey masks; leave it out, the data says what its masks mean")
        label_map = tuple(int(value >= config.mask_threshold) for value in range(256))
        source = dataclasses.replace(source, class_names=_two(names), label_map=label_map, blurred=True)
        told = [f"mask values from {config.mask_threshold} on are the class {source.class_names[1]!r}"]
    elif found.colours:
        distance = config.mask_tolerance
        source = dataclasses.replace(source, colour_distance=distance, blurred=distance > 0)
        if len(grey := grey_rows(masked)):
            source, told = _with_grey_masks(source, looks(grey), len(masked))
    elif not found.annotated:
        return _by_values(found, masked, config, known)
    if not source.palette:
        source = dataclasses.replace(source, palette=palette_of(masked, source.num_classes))
    return dataclasses.replace(source, notes=tuple(told)), pixel_counts(masked, source)


def _by_values(
    found: Found, masked: datasets.Dataset, config: DataConfig, known: tuple[str, ...]
) -> tuple[Source, np.ndarray]:
    seen = looks(masked)
    named = found.class_names or known
    require_agreement(seen, named, config)
    values = np.stack([look.counts for look in seen])
    occurring = np.flatnonzero(values.sum(0))
    own_values = [re.fullmatch(r"class_(\d+)", name) for name in known if not found.class_names]
    if found.class_ids:
        names, label_map, told = classes_of_values(occurring, found.class_ids, found.class_names)
    elif own_values and all(own_values):  # the model's classes were values found in masks
        names, label_map, told = classes_of_values(occurring, [int(match[1]) for match in own_values if match])
    else:
        names, label_map, told = classes_in(
            occurring,
            named,
            ignored_255=config.mask_255 == "ignored",
            mostly_255=values[:, IGNORE_INDEX].sum() > values[:, 1:IGNORE_INDEX].sum(),
        )
    if known and not found.class_names and label_map is None:
        shown = ", ".join(f"{value}: {names[value]}" for value in occurring[:5] if value < len(names))
        shown += ", 255: ignored" * (IGNORE_INDEX in occurring)
        told += (
            f"the masks name no classes and are read by those of the model, {shown}; a classes.txt says otherwise",
        )
    meaning = np.arange(256) if label_map is None else np.array(label_map)
    counts = np.stack([values[:, meaning == label].sum(1) for label in (*range(len(names)), IGNORE_INDEX)], axis=1)
    if void := [look.void for look in seen if look.void]:
        counts[:, -1] += [look.void for look in seen]
        told += (f"{len(void)} masks have pixels of NaN or of their nodata value, which are ignored",)
    palette = found.palette or palette_of(masked, len(names))
    source = Source(train=masked, val=masked, class_names=names, palette=palette, label_map=label_map, notes=told)
    return source, counts


def require_agreement(seen: list[Look], names: tuple[str, ...], config: DataConfig) -> None:
    """Raise DataError, naming files, where masks by themselves make sense and together do not."""
    _require_one_palette(seen)
    ids = [look for look in seen if look.values - {0, IGNORE_INDEX}]
    binary = not any(look.values - {0, 1, IGNORE_INDEX} for look in ids)  # else a mask of 255 alone is ignored
    white = [v for v in seen if v.values == {0, IGNORE_INDEX} or (binary and v.values == {IGNORE_INDEX})]
    both = any(IGNORE_INDEX in look.values for look in ids)  # then 255 is no class
    if config.mask_255 == "auto" and ids and white and not both and len(names) in (0, 2):
        raise DataError(
            f"{len(white)} masks hold only 0 and 255 ({_names(white)}) and {len(ids)} other values "
            f"({_names(ids)}: {_few(ids[0])}); if both mean the foreground, add "
            "--mask_threshold 1, if 255 means ignored, --mask_255 ignored"
        )
    if not names:
        _require_one_scale(ids)


def _require_one_scale(seen: list[Look]) -> None:
    """Raise DataError if the files with large values hold none as small as the other files, as grey levels and ids."""
    sides: tuple[list[Look], list[Look]] = ([], [])
    for look in seen:
        sides[max(look.values - {IGNORE_INDEX}) >= LARGE_VALUE].append(look)
    small, large = (set().union(*(look.values for look in side)) - {0, IGNORE_INDEX} for side in sides)
    if small and large and max(small) < min(large):
        low, high = (f"{len(side)} masks hold {_few(side[0])} ({_names(side)})" for side in sides)
        raise DataError(
            f"{low} and {high}, and none of both: if these are grey levels of the same classes, save all masks as "
            "class ids; if not, name the classes in classes.txt with their ids, as `5: car`"
        )


def _few(look: Look) -> str:
    return ", ".join(map(str, sorted(look.values)[:4]))


def _require_one_palette(seen: list[Look]) -> None:
    """Raise DataError if a value has several colours, or a colour several values in files that tell them apart."""
    colour_of: dict[int, tuple[RGB, str]] = {}
    value_of: dict[RGB, tuple[int, str]] = {}
    for look in seen:
        told = Counter(look.palette.values())
        for value, colour in look.palette.items():
            if value == IGNORE_INDEX:
                continue
            other, owner = colour_of.setdefault(value, (colour, look.name))
            conflict = f"the value {value} is {other} in one and {colour} in the other" if other != colour else ""
            if not conflict and told[colour] == 1:
                first, owner = value_of.setdefault(colour, (value, look.name))
                conflict = f"{colour} is the value {first} in one and {value} in the other" if first != value else ""
            if conflict:
                raise DataError(
                    f"the palettes of masks {owner!r} and {look.name!r} differ: {conflict}; say what the colours mean "
                    "with --mask_colours FILE, a line `name: r, g, b` per class, or, where the values are class ids, "
                    "save the masks as grey PNG"
                )


def classes_in(
    values: np.ndarray, names: tuple[str, ...], *, ignored_255: bool = False, mostly_255: bool = False
) -> tuple[tuple[str, ...], tuple[int, ...] | None, tuple[str, ...]]:
    """Class names, the class id of each stored value (None: itself), and what to tell, from the values in the masks.

    `mostly_255` says that 255 has more pixels than all values between it and 0, as the inside of soft edges has.
    Raises DataError if the values cannot be class ids, or are more than the named classes.
    """
    found = [int(value) for value in values if value != IGNORE_INDEX]
    has_255 = IGNORE_INDEX in values and not ignored_255
    if has_255 and found in ([], [0]) and len(names) <= 2:
        names = _two(("background", *names) if len(names) == 1 else names)
        told = f"the masks hold only 0 and 255: 255 is read as the class {names[1]!r}, not as ignored"
        return names, (0, *(IGNORE_INDEX for _ in range(254)), 1), (told,)
    if len(names) == 1 and found == [0, 1]:
        return ("background", *names), None, (f"0 is read as background, as {names[0]!r} alone is named",)
    if not found:
        raise DataError("every pixel of every mask is 255, which means ignored; training needs a pixel of some class")
    soft = "" if found[-1] < LARGE_VALUE and not mostly_255 else (
        "; if these are two classes with soft edges, add --mask_threshold 128, if they are grey levels, say what each "
        "means with --mask_colours FILE, a line `name: 64, 64, 64` per class"
    )  # fmt: skip
    if names:
        if found[-1] >= len(names):
            raise DataError(
                f"the masks hold the value {found[-1]}, but {len(names)} classes are named (0..{len(names) - 1}); "
                f"complete the list of classes, with ids where they do not run from 0 (`{found[0]}: {names[0]}`), or "
                f"correct the masks{soft}"
            )
        return names, None, ()
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(found)} different values, more like grey pictures than class ids; if they are ids, "
            f"name the classes in classes.txt{soft}"
        )
    gaps = found != list(range(found[0], found[-1] + 1))
    if has_255 and gaps and (mostly_255 or (found[-1] >= LARGE_VALUE and found[-1] > 2 * len(found))):
        shown = ", ".join(map(str, found[:8])) + (", …" if len(found) > 8 else "")
        raise DataError(
            f"the masks hold {shown} and 255, more like grey levels than class ids{soft}; if 255 means ignored, add "
            "--mask_255 ignored"
        )
    if found == [0, 1]:
        return BINARY, None, ("classes found in the masks: 0 and 1",)
    return classes_of_values(values, found)


def classes_of_values(
    values: np.ndarray, ids: Sequence[int], names: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], tuple[int, ...] | None, tuple[str, ...]]:
    """Names of the values `ids`, or else names after them, the class id of each value, and what to tell; DataError for
    other `values`."""
    known = ", ".join(map(str, ids))
    if strange := [int(value) for value in values if value not in (*ids, IGNORE_INDEX)]:
        who = "the list of classes names" if names else "the model knows"
        raise DataError(f"the masks hold the value {strange[0]}, but {who} {known} only")
    mapping = tuple(ids.index(value) if value in ids else IGNORE_INDEX for value in range(256))
    if names:
        return names, mapping, (f"the values {known} of the masks are the classes {', '.join(names)}",)
    given = "" if list(ids) == list(range(len(ids))) else f", as `{ids[-1]}: name`"
    ignored = "; 255 is ignored" * (IGNORE_INDEX in values)
    told = f"classes found in the masks: {known}{ignored}; name them in classes.txt, one a line{given}"
    return tuple(f"class_{value}" for value in ids), mapping, (told,)


def _with_grey_masks(source: Source, grey: list[Look], masks: int) -> tuple[Source, list[str]]:
    """Whether grey files among coloured ones are read by the colours or as ids: what all their values allow."""
    shown = {value * (255 // look.white) for look in grey for value in look.values}
    stored = {value for look in grey for value in look.values}
    colours = {colour[0] for colour, _ in source.colours if len(set(colour)) == 1}
    by_colours = shown <= colours or not all(value < source.num_classes or value == IGNORE_INDEX for value in stored)
    how = "read by their grey colours" if by_colours else "read as class ids, their greys being none of the colours"
    told = f"{len(grey)} of {masks} masks are grey ({_names(grey)}) and {how}"
    return dataclasses.replace(source, grey_colours=by_colours), [told]


def _two(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) not in (0, 2):
        raise ConfigError(f"masks of two values need two class names; {len(names)} are named")
    return names or BINARY


def _names(seen: list[Look]) -> str:
    return first_five([look.name for look in seen])
