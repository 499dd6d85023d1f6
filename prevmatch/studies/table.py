"""Finished runs as a table in the layout of the published ones: ours, published, difference."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev

from prevmatch.config import ALL, full_name, material
from prevmatch.errors import ConfigError, DataError

LABELS = {
    "supervised": "Supervised",
    "fixmatch": "FixMatch",
    "unimatch": "UniMatch",
    "prevmatch": "PrevMatch",
    "mean_teacher": "Mean Teacher",
    "augseg": "AugSeg",
    "dual_teacher": "Dual Teacher",
    "semivl": "SemiVL",
    "cps": "CPS",
    "co_training": "Diverse Co-training",
    "unimatch_v2": "UniMatch V2",
}
BACKBONES = {
    "resnet50s": "R50",
    "resnet101s": "R101",
    "xception65.published": "Xception-65",
    full_name("dinov2_small"): "DINOv2-S",
    full_name("dinov2_base"): "DINOv2-B",
    full_name("dinov2_large"): "DINOv2-L",
    "vit_base_patch16_clip_224.openai": "CLIP-B/16",
}

AXES = {"method", "encoder", "split", "seed"}
"""What runs of one table may differ in; with method and encoder, a recipe may change all other settings."""


@cache
def published_results() -> dict:
    """The published tables by data set: splits, encoders, hours, rows and notes."""
    return json.loads(files("prevmatch.studies").joinpath("published_results.json").read_text())


def read_results(folder: Path) -> list[dict]:
    """The result.json of every finished run in `folder`.

    Raises ConfigError if the runs do not belong into one table, DataError if a file is damaged.
    """
    results, first = [], dict[tuple[str, str], dict]()
    for path in sorted(folder.glob("*/result.json")):
        try:
            result = json.loads(path.read_text())
            settings = {k: v for k, v in material(result["config"]).items() if k not in AXES}
        except (ValueError, KeyError, OSError) as error:
            raise DataError(f"{path} is damaged ({type(error).__name__}); remove it to run it again") from error
        like = first.setdefault((result["config"]["method"], result["config"]["encoder"]), settings)
        other = sorted(k for k, v in settings.items() if like.get(k) != v)
        if other:
            raise ConfigError(
                f"{path.parent} was run with {other[0]}={settings[other[0]]}, other runs in {folder} with "
                f"{like.get(other[0])}; remove it or choose another results folder"
            )
        results.append(result)
    return results


def table(
    recipe: str, results: Sequence[dict], methods: Sequence[str], encoders: Sequence[str], splits: Sequence[str],
    missing: Callable[[str, str], str],
) -> str:  # fmt: skip
    """A Markdown table, methods and encoders down, splits across.

    `missing` says why a cell of (method, encoder) has no results. Published rows that cannot be run here follow.
    """
    known = published_results().get(recipe, {"rows": [], "notes": []})
    lines = [f"| method | backbone | mIoU % | {' | '.join(splits)} |", "|---|---|---|" + "---:|" * len(splits)]
    shown: list[dict] = []
    for encoder in encoders:
        for method in methods:
            cells = [_runs(results, method, encoder, split) for split in splits]
            rows = _published(known["rows"], method, encoder, splits, cells)
            lines += _rows(rows, method, encoder, splits, cells, missing(method, encoder))
            lines += _shares(results, method, encoder, splits)
            lines += _published_shares(known, rows, splits)
            shown += [row for row in rows if row]
        lines += _oracle(known, results, encoder, splits)
    for row in known["rows"]:
        values = [_number(row["miou"].get(split), row) for split in splits]
        if row not in shown and any(values):
            why = "published, not run" if "method" in row else "published"
            lines.append(f"| {row['label']} | {row['backbone']} | {why} | {' | '.join(values)} |")
            lines += _published_shares(known, [row if split in row["miou"] else None for split in splits], splits)
    return "\n".join([*lines, "", *(f"* {note}" for note in (*_notes(results), *known["notes"]))]) + "\n"


def _published(
    rows: list[dict], method: str, encoder: str, splits: Sequence[str], cells: list[list[dict]]
) -> list[dict | None]:
    """For each split the published row that belongs to one method with one encoder, frozen or not as in our runs."""
    run: dict = next((run["config"] for runs in cells for run in runs), {})
    kind = (method, encoder, run.get("freeze_encoder", False))
    matches = [r for r in rows if (r.get("method"), r.get("encoder"), r.get("frozen", False)) == kind]
    matches.sort(key=lambda r: r.get("crop") != run["crop_size"] if run else False)  # the same crop first
    return [next((r for r in matches if split in r["miou"]), None) for split in splits]


def _rows(
    rows: list[dict | None], method: str, encoder: str, splits: Sequence[str], cells: list[list[dict]], missing: str
) -> list[str]:
    """The lines of one method with one encoder: best epoch, final epoch, published, difference."""
    best = [_spread([run["best_miou"] for run in runs]) if runs else missing for runs in cells]
    final = [_spread([run["final_miou"] for run in runs]) if runs else "" for runs in cells]
    name = f"| {LABELS.get(method, method)} | {BACKBONES.get(encoder, encoder)} |"
    lines = [f"{name} ours, best epoch | {' | '.join(best)} |", f"| | | ours, final epoch | {' | '.join(final)} |"]
    if any(rows):
        values = [_number(r["miou"][split], r) if r else "" for r, split in zip(rows, splits, strict=True)]
        differences = [
            f"{mean(run['best_miou'] for run in runs) - r['miou'][split]:+.1f}" if r and runs else ""
            for r, split, runs in zip(rows, splits, cells, strict=True)
        ]
        lines.append(f"| | | published | {' | '.join(values)} |")
        lines.append(f"| | | difference of best | {' | '.join(differences)} |")
    return lines


def _shares(results: Sequence[dict], method: str, encoder: str, splits: Sequence[str]) -> list[str]:
    """The line of a method that says how much of the gap between labels only and the labels of all images it closes,
    by the means of the final epochs; none where there is no such gap to speak of."""
    oracle = _runs(results, "supervised", encoder, ALL)
    runs = [(_runs(results, "supervised", encoder, s), _runs(results, method, encoder, s)) for s in splits]
    if method == "supervised" or not oracle or not all(few and own for few, own in runs):
        return []
    top = mean(run["final_miou"] for run in oracle)
    means = [[mean(run["final_miou"] for run in group) for group in pair] for pair in runs]
    shares = [f"{100 * (own - few) / (top - few):.0f} %" if top - few >= 1 else "no gap" for few, own in means]
    return [f"| | | share of the gap closed | {' | '.join(shares)} |"]


def _oracle(known: dict, results: Sequence[dict], encoder: str, splits: Sequence[str]) -> list[str]:
    """The lines of the labels of all images: ours and the published number, where there are any."""
    runs, published = _runs(results, "supervised", encoder, ALL), known.get("oracle", {}).get(encoder)
    own = _spread([run["final_miou"] for run in runs]) if runs else None
    name = f"| Labels of all images | {BACKBONES.get(encoder, encoder)} |"
    cells = (("ours, final epoch", own), ("published", published and f"{published:.1f}"))
    return [f"{name} {what} | {' | '.join([value] * len(splits))} |" for what, value in cells if value]


def _published_shares(known: dict, rows: Sequence[dict | None], splits: Sequence[str]) -> list[str]:
    """The same share by the published numbers, where labels only and the labels of all images have one."""
    shares = []
    for row, split in zip(rows, splits, strict=True):
        row = row or {}
        few = next((r["miou"].get(split) for r in known["rows"] if (r.get("method"), r.get("encoder")) == (
            "supervised", row.get("encoder"))), None)  # fmt: skip
        top = known.get("oracle", {}).get(row.get("encoder"))
        usable = few and top and row.get("method") != "supervised" and not row.get("frozen")
        shares.append(f"{100 * (row['miou'][split] - few) / (top - few):.0f} %" if usable else "")
    return [f"| | | published share of the gap closed | {' | '.join(shares)} |"] if any(shares) else []


def _runs(results: Sequence[dict], method: str, encoder: str, split: str) -> list[dict]:
    keys = (method, encoder, split)
    return [r for r in results if (r["config"]["method"], r["config"]["encoder"], r["config"]["split"]) == keys]


def _number(value: float | None, row: dict) -> str:
    return "" if value is None else f"{value:.1f}" + (f" ({row['mark']})" if "mark" in row else "")


def _spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds, and how many there are."""
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation} (n={len(values)})"


def _notes(results: Sequence[dict]) -> list[str]:
    notes = [
        "Ours: mean ± standard deviation over n seeds. The best epoch is chosen on the validation images, as in the "
        "published protocol, so it flatters; the final epoch is not chosen."
    ]
    if any(r["config"]["bank_policy"] == "best" and r["config"]["method"] == "prevmatch" for r in results):
        notes.append("PrevMatch's bank follows the validation score (bank_policy best), as published.")
    measured = {key: sorted({str(r["environment"][key]) for r in results} - {""})
                for key in ("device", "mixed_precision", "torch", "commit")}  # fmt: skip
    if results:
        facts = (f"{key.replace('_', ' ')} {' and '.join(values)}" for key, values in measured.items() if values)
        notes.append(f"Measured with {', '.join(facts)}.")
    return notes
