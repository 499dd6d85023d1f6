"""Folds: a list of divisions of the masks, such that each mask validates once and never where it was learned from."""

import dataclasses

import datasets
import numpy as np

from prevmatch.config import DataConfig
from prevmatch.data.lists import first_five
from prevmatch.data.scenes import looks_of, scenes
from prevmatch.data.sources import Source
from prevmatch.data.splits import has_mask
from prevmatch.data.survey import presence
from prevmatch.errors import ConfigError, DataError

TRIES = 200
OF_ONE_SPLIT = (
    "masks are held out for validation", "validation images are training images too",
    "validation images look like training images",
)  # fmt: skip
"""Notes that say nothing about folds; copies of an image are in one fold, for they look alike."""


def hold_out_fold(source: Source, config: DataConfig) -> Source:
    """The source with the masks of fold `config.fold` held out; of fold 0 none are, and nothing validates.

    All masks are divided, those of a validation part too; a test part is in neither list. Raises DataError if there
    are fewer masks, or scenes, than folds.
    """
    rows = datasets.concatenate_datasets([source.train, source.val])
    masked = np.flatnonzero(has_mask(rows))
    labelled = rows.select(masked)
    if len(masked) < config.folds:
        raise DataError(f"folds is {config.folds}, but {len(masked)} images have a mask; lower --folds or label more")
    ids = labelled["id"][:]
    if len(set(ids)) < len(ids):
        raise DataError(f"images share a name in two parts: {first_five(_double(ids))}; folds need names that differ")
    there = presence(labelled, source)
    scene = scenes(ids, looks_of(labelled))
    number = divide(there, scene, config.folds, seed=config.split_seed)
    held_out = masked[number == config.fold]
    scene_of = dict(zip(ids, scene.tolist(), strict=True))
    kept = np.setdiff1d(np.arange(len(rows)), held_out)
    notes = [note for note in source.notes if not any(words in note for words in OF_ONE_SPLIT)]
    told = (*notes, *describe(ids, source.class_names, there, scene, number, config))
    return dataclasses.replace(source, train=rows.select(kept), val=rows.select(held_out), scenes=scene_of, notes=told)


def divide(presence: np.ndarray, scene: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """The fold of each of N masks, int64 (N), from 1 on; the same for the same seed.

    presence: bool (N, C), whether a class occurs in a mask; scene: int (N), whose images stay together, in the order
    of their names. A scene with more masks than a fold has room for is cut into stretches. Of many draws in the manner
    of Sechidis et al. (2011), rarest class first, the one counts that has each class in most folds, as evenly as can
    be.
    """
    block = _stretches(scene, -(-len(scene) // folds))
    sizes = np.bincount(block)
    classes = np.zeros((len(sizes), presence.shape[1]), dtype=np.int64)
    np.add.at(classes, block, presence.astype(np.int64))
    rng = np.random.default_rng((seed, 3))
    drawn = [_draw(classes > 0, sizes, folds, rng) for _ in range(TRIES)]
    best = max(drawn, key=lambda fold: _quality(fold, classes > 0, sizes, folds))
    return best[block] + 1


def _quality(fold: np.ndarray, classes: np.ndarray, sizes: np.ndarray, folds: int) -> tuple[int, int, int]:
    """How many folds are not empty, in how many each class occurs, added up, and how even they are."""
    count = np.bincount(fold, sizes, minlength=folds)
    reached = sum(len(np.unique(fold[classes[:, c]])) for c in range(classes.shape[1]))
    return int((count > 0).sum()), reached, -int(count.max() - count.min())


def _draw(classes: np.ndarray, sizes: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """One draw: the fold of each block, from blocks' classes bool (B, C) and numbers of masks (B)."""
    fold = np.full(len(sizes), -1)
    count, shown = np.zeros(folds), np.zeros((folds, classes.shape[1]))
    room = -(-sizes.sum() // folds)
    order = rng.permutation(len(sizes))
    for c in [*np.argsort(classes.sum(0), kind="stable"), None]:
        wanted = order[(fold[order] < 0) & (classes[order, c] if c is not None else True)]
        for block in wanted[np.argsort(-sizes[wanted], kind="stable")]:
            full = count + sizes[block] > room
            has = shown[:, c] if c is not None else np.zeros(folds)
            lacks = -(classes[block] & (shown == 0)).sum(1)
            best = np.lexsort((rng.random(folds), count, lacks, has, full))[0]
            fold[block] = best
            count[best] += sizes[block]
            shown[best] += classes[block]
    return fold


def _stretches(scene: np.ndarray, most: int) -> np.ndarray:
    """Number of the block of each mask: its scene, or a stretch of at most `most` masks of it."""
    names = []
    seen = dict.fromkeys(scene.tolist(), 0)
    for number in scene.tolist():
        names.append((number, seen[number] // most))
        seen[number] += 1
    return np.array([sorted(set(names)).index(name) for name in names])


def describe(
    ids: list[str],
    names: tuple[str, ...],
    there: np.ndarray,
    scene: np.ndarray,
    number: np.ndarray,
    config: DataConfig,
) -> list[str]:
    """What a user should know about the folds, one line each."""
    sizes = np.bincount(number, minlength=config.folds + 1)[1:]
    told = [
        f"{len(number)} masks in {config.folds} folds of {', '.join(map(str, sizes))}, split_seed {config.split_seed}"
    ]
    together = len(number) - scene.max() - 1
    if together:
        several = [np.flatnonzero(scene == one) for one in np.flatnonzero(np.bincount(scene) > 1)]
        shown = first_five([" ~ ".join([ids[i] for i in rows[:3]] + ["…"] * (len(rows) > 3)) for rows in several])
        told.append(
            f"{len(number)} masks show {scene.max() + 1} scenes, by names and looks; a scene stays in one fold: "
            f"{shown}"
        )
    if np.bincount(scene).max() > -(-len(number) // config.folds):
        told.append("WARNING: one scene has more masks than a fold, so it is cut: for other scenes scores flatter")
    for c, name in enumerate(names):
        reached = len(np.unique(number[there[:, c]]))
        if 0 < reached < config.folds:
            alone = "; the network that is scored on it never saw it" if reached == 1 else ""
            told.append(f"{name} is in {int(there[:, c].sum())} masks, in {reached} of {config.folds} folds{alone}")
    return told


def require_own_data(config: DataConfig) -> None:
    """Raise ConfigError if folds are asked for where a data set has validation images of its own, or all at once."""
    if config.folds and (config.dataset != "custom" or config.split is not None):
        raise ConfigError("folds divide the masks of own data (--dataset custom, no --split); leave --folds out")
    if config.folds and config.fold is None:
        raise ConfigError("folds are several runs; hand them to prevmatch.studies.study.study, or name one with fold")


def _double(ids: list[str]) -> list[str]:
    return sorted({name for name in ids if ids.count(name) > 1})
