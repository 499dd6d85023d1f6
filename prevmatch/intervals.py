"""How sure a score is: intervals of IoU by bootstrap over images, of one network and of the difference of two.

A score from a few masks says little about other images. Drawing as many images again, with replacement, and scoring
each draw shows how much it depends on which images happened to be labelled (Efron, 1979). Plain percentiles of these
draws are too narrow for few images, so they are taken further out, as Student's t asks: Hesterberg's expanded
percentile interval (What Teachers Should Know About the Bootstrap, 2015, section 5.3).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import atan, cos, isfinite, nan, pi, sin, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

Units = Sequence[int] | np.ndarray | None
"""Numbers (N) that are equal for images that belong together, or None where none do."""

LEVEL = 0.9
"""How often an interval is to hold what is true of other images of the same kind."""
DRAWS = 4000
FEWEST = 3
"""Masks with a class, or images at all, from which on there is an interval."""
MOST_FOLDS = 5
"""Folds that are advised."""
MANY = 30
"""Masks from which on a single split is not told to be too small."""


@dataclass(frozen=True)
class Interval:
    """A number in %, or a difference of two, and where it lies for other images of the same kind.

    `low` and `high` are NaN where there are too few masks to say so.
    """

    value: float
    low: float
    high: float
    masks: int
    """Images with a mask that it comes from."""

    def __str__(self) -> str:
        """54 ± 17 from 4 masks."""
        masks = f"{self.masks} mask{'s' * (self.masks != 1)}"
        if not isfinite(self.value):
            return "no number, as no mask shows it"
        if not isfinite(self.low):
            return f"{self.value:.0f} from {masks}, too few to say how sure that is"
        return f"{self.rounded} from {masks}"

    @property
    def rounded(self) -> str:
        """54 ± 17, or 54.1 ± 0.4: in whole numbers, unless that would claim that there is no doubt."""
        digits = 0 if self.half >= 1 else 1
        return f"{self.value:.{digits}f} ± {self.half:.{digits}f}"

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, None for NaN; with it what is told."""
        values = {name: v if isfinite(v) else None for name, v in asdict(self).items()}
        return values | {"level": LEVEL, "told": str(self)}


@dataclass(frozen=True)
class Scores:
    """The mean IoU and that of each class, with their intervals."""

    miou: Interval
    classes: tuple[Interval, ...]


def iou_of(counts: np.ndarray) -> np.ndarray:
    """IoU in %, float64 (…, C), from `counts` (…, 3, C); NaN for a class without a true pixel."""
    right, true, said = np.moveaxis(np.asarray(counts, dtype=np.float64), -2, 0)
    with np.errstate(invalid="ignore"):
        return np.where(true > 0, 100 * right / np.maximum(true + said - right, 1), nan)


def counts_of(confusions: np.ndarray) -> np.ndarray:
    """Of each confusion matrix (N, C, C), rows true, the pixels that are right, true and said: int64 (N, 3, C)."""
    confusions = np.asarray(confusions)
    right = np.diagonal(confusions, axis1=1, axis2=2)
    return np.stack([right, confusions.sum(2), confusions.sum(1)], axis=1)


def mean_iou(iou: np.ndarray, absent: float = nan) -> np.ndarray:
    """The mean of IoU (…, C) over the classes that are there; those that are nowhere in `iou` count as `absent`."""
    nowhere = np.isnan(iou).all(axis=tuple(range(iou.ndim - 1)))
    iou = np.where(nowhere & (not np.isnan(absent)), absent, iou)
    there = ~np.isnan(iou)
    return np.where(there, iou, 0).sum(-1) / np.where(there.any(-1), there.sum(-1), nan)


def pooled_miou(confusions: np.ndarray) -> float:
    """The mean IoU in % over the added confusion matrices int64 (N, C, C), of the classes that occur."""
    return float(mean_iou(iou_of(counts_of(confusions).sum(0))))


def scores(confusions: np.ndarray, *, units: Units = None, absent: float = nan, seed: int = 0) -> Scores:
    """Mean IoU and IoU of each class over the pooled confusion matrices int64 (N, C, C) of N images, with intervals.

    `units` (N) says which images belong together, such as those of one video: whole units are drawn. `absent` is what
    a class counts that no image shows: 0 for the published data sets, NaN for not at all.
    """
    counts = counts_of(confusions)
    masks = (counts[:, 1] > 0).sum(0)
    pooled = iou_of(counts.sum(0))
    joined = _joined(counts, units)
    drawn = iou_of(_drawn(joined, seed))
    kept = ~np.isnan(pooled)
    drawn_mean = mean_iou(drawn[:, kept]) * (1 if np.isnan(absent) else kept.mean())
    low, high = expanded_percentiles(drawn_mean, len(joined))
    miou = Interval(float(mean_iou(pooled, absent)), low, high, len(counts))
    classes = []
    for c in range(len(pooled)):
        enough = masks[c] >= FEWEST
        units_with = int((joined[:, 1, c] > 0).sum())
        low, high = expanded_percentiles(drawn[:, c], units_with) if enough else (nan, nan)
        classes.append(Interval(float(pooled[c]), low, high, int(masks[c])))
    return Scores(miou, tuple(classes))


def difference(first: np.ndarray, second: np.ndarray, *, units: Sequence[Units] = (None,), seed: int = 0) -> Interval:
    """How much higher the mean IoU of `first` is than that of `second`, both int64 (N, C, C) of the same N images.

    Paired: each draw takes the same images of both. With several `units` (as in `scores`) the widest interval counts:
    drawing the images says what other images would change; drawing whole folds, each of which trained a network of
    its own, says what another training would.
    """
    both = counts_of(first), counts_of(second)
    value = pooled_miou(first) - pooled_miou(second)
    lows, highs = [], []
    for unit in units:
        joined = [_joined(counts, unit) for counts in both]
        drawn = [mean_iou(iou_of(_drawn(counts, seed))) for counts in joined]
        low, high = expanded_percentiles(drawn[0] - drawn[1], len(joined[0]))
        lows.append(low)
        highs.append(high)
    return Interval(value, float(np.min(lows)), float(np.max(highs)), len(first))


def extrapolation(
    points: Sequence[np.ndarray], sizes: Sequence[float], target: float, *, units: Units = None,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """The mean IoU at `target` masks on straight lines, over the logarithm of their number, through the scores of
    networks that learned from `sizes` masks: `points`, int64 (N, C, C) each, of the same N images in the same order.

    One line goes through all points, another through the last two, which says whether more masks still pay: the value
    is their mean, the interval covers those of both. Each draw takes the same images at all points.
    """
    counts = [_joined(counts_of(point), units) for point in points]
    drawn = np.stack([mean_iou(iou_of(_drawn(each, seed))) for each in counts])
    values = np.array([pooled_miou(point) for point in points])
    promised, lows, highs = [], [], []
    for count in (len(sizes), 2):
        line = np.stack([np.ones(count), np.log2(sizes[-count:])], axis=1)
        weights = np.array([1, np.log2(target)]) @ np.linalg.pinv(line)
        low, high = expanded_percentiles((weights @ drawn[-count:]).clip(0, 100), len(counts[0]))
        promised.append((weights @ values[-count:]).clip(0, 100))
        lows.append(low)
        highs.append(high)
    return Interval(float(np.mean(promised)), float(np.min(lows)), float(np.max(highs)), len(points[0]))


def expanded_percentiles(draws: np.ndarray, count: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval (low, high) of a bootstrap's draws (D) over `count` units; NaN for fewer than 3 units."""
    draws = draws[~np.isnan(draws)]
    if count < FEWEST or not len(draws):
        return nan, nan
    tail = NormalDist().cdf(-sqrt(count / (count - 1)) * student_quantile((1 + level) / 2, count - 1))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def student_quantile(share: float, freedom: int) -> float:
    """Student's t below which lies `share` (from 0.5 on), of `freedom` degrees, by halving its distribution function.

    That function has a closed form for whole degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, freedom) < share else (low, middle)
    return low


def _student(t: float, freedom: int) -> float:
    angle = atan(t / sqrt(freedom))
    even = freedom % 2 == 0
    term, total = (1.0, 0.0) if even else (cos(angle), 0.0)
    for k in range(freedom // 2):
        total += term
        term *= cos(angle) ** 2 * ((2 * k + 1) / (2 * k + 2) if even else (2 * k + 2) / (2 * k + 3))
    within = sin(angle) * total if even else 2 / pi * (angle + sin(angle) * total)
    return 0.5 + within / 2


def _joined(counts: np.ndarray, units: Units) -> np.ndarray:
    """The sums of counts (N, 3, C) over units."""
    if units is None:
        return counts
    _, place = np.unique(np.asarray(units), return_inverse=True)
    sums = np.zeros((place.max() + 1, *counts.shape[1:]), dtype=np.int64)
    np.add.at(sums, place, counts)
    return sums


def _drawn(counts: np.ndarray, seed: int) -> np.ndarray:
    """The sums of DRAWS draws of N from counts (N, 3, C), with replacement: float64 (DRAWS, 3, C)."""
    number = len(counts)
    times = np.random.default_rng((seed, 5)).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    return np.tensordot(times.astype(np.float64), counts.astype(np.float64), axes=1)


def told(interval: Interval, *, folds: bool, whole: bool = False, masks: int = MOST_FOLDS) -> str:
    """The number for a person: with how sure it is and, where that is not much, what would help.

    `folds` says that each mask was scored by a network that never saw it; `whole` that the validation images are a
    data set's own, so that no folds can help; `masks` how many there are in all, which folds would divide.
    """
    if folds:
        return f"{interval}, each scored by a network that never saw it"
    few = not whole and interval.masks < MANY and masks >= FEWEST
    return f"{interval}{f': --folds {min(masks, MOST_FOLDS)} gives a number to rely on' * few}"


def answer(gain: Interval, *, other: str | None = "supervised") -> str:
    """Whether the first of two runs is better, in a plain sentence: did the unlabelled photos help?

    `other` is the method to use where it is not, or None where no advice is to be given.
    """
    if not isfinite(gain.low):
        few = f"{gain.masks} mask{'s' * (gain.masks != 1)}"
        return f"cannot be told from {few}: too few{' folds' * (gain.masks >= FEWEST)} for an interval"
    shown = f"{gain.value:+.1f} [{gain.low:.1f}, {gain.high:.1f}]"
    if round(gain.low, 1) > 0:  # as it is shown: no difference of 0.0 is an answer
        return f"yes, {shown}"
    if round(gain.high, 1) < 0:
        return f"no, {shown}" if other is None else f"no: use --method {other} ({shown})"
    return f"cannot be told from {gain.masks} masks: {shown}"
