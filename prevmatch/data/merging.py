"""Classes that a user wants as one, or not at all."""

import dataclasses

import numpy as np

from prevmatch.config import IGNORE_INDEX, DataConfig
from prevmatch.data.sources import Source
from prevmatch.errors import ConfigError


def merge(source: Source, counts: np.ndarray, config: DataConfig) -> tuple[Source, np.ndarray]:
    """The source with its classes merged and ignored as the settings say, and its pixels int64 (N, C + 1) likewise.

    A merged class stands where the first of its classes stood. Raises ConfigError for classes that are not there.
    """
    if not (config.merge_classes or config.ignore_classes):
        return source, counts
    new_name = {name: name for name in source.class_names}
    for rule in config.merge_classes:
        olds, equals, new = rule.rpartition("=")
        if not (equals and new.strip() and olds.strip()):
            raise ConfigError(f"merge_classes has {rule!r} but needs OLD,OLD=NEW, such as car,truck=vehicle")
        for old in _known(olds, source, "merge_classes"):
            new_name[old] = new.strip()
    ignored = {name for rule in config.ignore_classes for name in _known(rule, source, "ignore_classes")}
    if both := sorted(name for name in ignored if new_name[name] != name):
        raise ConfigError(f"merge_classes and ignore_classes both have {both[0]!r}; leave it out of one")
    names = list(dict.fromkeys(new_name[name] for name in source.class_names if name not in ignored))
    ids = [IGNORE_INDEX if name in ignored else names.index(new_name[name]) for name in source.class_names]
    first = [ids.index(label) for label in range(len(names))]
    merged = np.zeros((len(counts), len(names) + 1), dtype=counts.dtype)
    for place, label in enumerate([*ids, IGNORE_INDEX]):
        merged[:, -1 if label == IGNORE_INDEX else label] += counts[:, place]
    told = [f"classes merged: {rule}" for rule in config.merge_classes]
    told += [f"classes ignored: {', '.join(sorted(ignored))}"] * bool(ignored)
    source = dataclasses.replace(
        source,
        class_names=tuple(names),
        palette=tuple(source.palette[old] for old in first),
        merged=tuple(ids),
        notes=(*source.notes, *told),
    )
    return source, merged


def _known(names: str, source: Source, setting: str) -> list[str]:
    wanted = [name.strip() for name in names.split(",")]
    if missing := [name for name in wanted if name not in source.class_names]:
        raise ConfigError(f"{setting} has {missing[0]!r}, but the classes are {', '.join(source.class_names)}")
    return wanted
