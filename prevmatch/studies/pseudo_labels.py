"""How good the pseudo-labels are, measured on masks that nobody learned from, and which setting that asks to move."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prevmatch.config import GuidanceConfig
from prevmatch.studies.held_out import HeldOut, Said

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
HOLDS_UP = 1.0
"""Points of precision that a lower threshold may cost."""
MORE = 5.0
"""Points of the pixels that must then count more."""
TOO_LOW = 80.0
"""Precision in % below which a higher threshold is looked for."""
WHO = {
    "student": "pseudo-labels by the network itself",
    "teacher": "pseudo-labels by its moving average",
    "previous": "pseudo-labels by its earlier versions",
}
LABEL_MORE, LABEL_MORE_OF = "label more photos", "label more of {}"
ERASED = 50.0
"""% of a class's accepted pixels that are called otherwise, from which on it is erased."""


def quality(held: HeldOut, config: GuidanceConfig) -> dict[str, Any]:
    """Accepted share and precision in % of each guide, over all and per class, at several thresholds and at its own;
    and what to do, as plain JSON values."""
    guides = {
        name: _of_guide(said, held.class_names, threshold_of(name, config)) for name, said in held.guides.items()
    }
    return {"guides": guides, "advice": advice(held, config)}


def threshold_of(guide: str, config: GuidanceConfig) -> float:
    """The threshold at which a guide's pseudo-labels count."""
    return config.previous_threshold if guide == "previous" else config.confidence_threshold


def accepted_and_precision(said: Said, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Of what is said of each class, and last of all classes, the share in % whose confidence reaches a threshold, and
    the share of that which is right: float64 (C + 1) each, NaN where there is nothing."""
    every, counting = said.reaching(0).sum(0), said.reaching(threshold)
    accepted, right = counting.sum(0), np.diagonal(counting)
    every, accepted, right = (np.append(values, values.sum()).astype(float) for values in (every, accepted, right))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * accepted / every, 100 * right / accepted


def advice(held: HeldOut, config: GuidanceConfig) -> list[str]:
    """Which setting to move, a sentence for each; an empty list where nothing asks for it."""
    lines = []
    guiding = ["teacher" if "teacher" in held.guides else "student", "previous"]
    for guide in (name for name in guiding if name in held.guides):
        said, own = held.guides[guide], threshold_of(guide, config)
        setting = "previous_threshold" if guide == "previous" else "confidence_threshold"
        already = config.threshold_kind == "classwise"
        if already and not said.reaching(own).sum():
            own = min(own, config.threshold_floor)  # down to which a class's own threshold may lie
        threshold = _threshold_advice(guide, said, own, setting)
        remedy = LABEL_MORE_OF if already else LABEL_MORE_OF + ", or try --threshold_kind classwise"
        lines += threshold or _erased(guide, said.reaching(own), held.class_names, remedy)
    return lines


def _threshold_advice(guide: str, said: Said, own: float, setting: str) -> list[str]:
    share, right = (values[-1] for values in accepted_and_precision(said, own))
    if np.isnan(right):
        if not accepted_and_precision(said, THRESHOLDS[0])[0][-1] >= MORE:
            return [
                f"{WHO[guide]}: none counts, for hardly any is as sure as {THRESHOLDS[0]:g}; train longer (--steps)"
            ]
        return [f"{WHO[guide]}: none is as sure as {own:g}, so none counts; lower --{setting}"]
    others = {t: tuple(v[-1] for v in accepted_and_precision(said, t)) for t in THRESHOLDS}
    lower = [t for t, (s, r) in others.items() if t < own and r >= right - HOLDS_UP and s >= share + MORE]
    if right >= TOO_LOW and lower:
        best = max(lower, key=lambda t: (others[t][0], t))
        more, still = others[best]
        return [
            f"{WHO[guide]}: {right:.0f} % of those that count are right, and {still:.0f} % down to a confidence of "
            f"{best:g}, where {more:.0f} % of the pixels count instead of {share:.0f} %: try --{setting} {best:g}"
        ]
    higher = [t for t, (_, r) in others.items() if t > own and r >= right + MORE]
    if right < TOO_LOW and higher:
        fewer, better = others[higher[0]]
        return [
            f"{WHO[guide]}: only {right:.0f} % of those that count are right, and {better:.0f} % from a confidence of "
            f"{higher[0]:g} on, where {fewer:.0f} % of the pixels count: try --{setting} {higher[0]:g}"
        ]
    if right < TOO_LOW:
        so_few = f"only {right:.0f} % of those that count are right, at no threshold clearly more"
        return [f"{WHO[guide]}: {so_few}: {LABEL_MORE}"]
    return []


def _erased(guide: str, counting: np.ndarray, names: Sequence[str], remedy: str) -> list[str]:
    lines = []
    for c, name in enumerate(names):
        total = counting[c].sum()
        others = 100 * (total - counting[c, c]) / total if total else 0
        if others > ERASED:
            by = int(np.argmax(np.where(np.arange(len(names)) == c, -1, counting[c])))
            lines.append(
                f"{WHO[guide]}: of {name} {others:.0f} % of those that count say something else, mostly "
                f"{names[by]}: {remedy.format(name)}"
            )
    return lines


def _of_guide(said: Said, names: Sequence[str], own: float) -> dict[str, Any]:
    rows = {}
    for threshold in sorted({*THRESHOLDS, own}):
        share, right = accepted_and_precision(said, threshold)
        per_class = {name: _pair(share[c], right[c]) for c, name in enumerate(names)}
        rows[f"{threshold:g}"] = _pair(share[-1], right[-1]) | {"classes": per_class}
    return {"threshold": own, "own": rows[f"{own:g}"], "at": rows}


def _pair(share: float, right: float) -> dict[str, Any]:
    return {k: None if np.isnan(v) else round(float(v), 2) for k, v in (("accepted", share), ("precision", right))}
