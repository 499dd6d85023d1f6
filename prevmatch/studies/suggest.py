"""Which photos to label next: those over which earlier versions disagree most, where classes are known worst."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from prevmatch.data.cells import open_cell
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_image
from prevmatch.data.scenes import looks_of, scenes
from prevmatch.errors import ConfigError, DataError
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.progress import progress
from prevmatch.run.results import settings_of
from prevmatch.share.pages import render
from prevmatch.share.prelabels import Prelabelled, write_prelabels
from prevmatch.studies.folds import tell
from prevmatch.studies.held_out import parts_of, versions_of

TOLD, PAGE = "suggestions.json", "suggestions.html"
GRID = 4
"""Cells each way of the coarse map by which two photos are alike."""
LONGEST = 1024
"""Photos are looked at with at most this long side, unless the model has one."""
LIMIT = 1000
"""Photos that are looked at unless more are asked for; each is segmented by every version, which takes its time."""


@dataclass(frozen=True)
class Looked:
    """What the versions say of a photo."""

    name: str
    disagreement: np.ndarray
    """Of each class (C): the mean over all pixels of how much the versions disagree where it is said."""
    layout: np.ndarray
    """Which classes are where, of length 1: float64 (C · GRID²)."""


def suggest(
    run: Path, output_dir: Path, *, count: int = 10, limit: int = LIMIT, overwrite: bool = False
) -> list[dict[str, Any]]:
    """Rank the unlabelled photos of a run, and write the first `count` with pre-labels, a picture and the reasons.

    Of more than `limit` photos (0: however many) those are looked at that lie evenly in the order of their names.
    The same run gives the same photos. Raises DataError if there is nothing unlabelled, or only one version, and
    ConfigError if `count` is below 1 or `limit` below 0, or a file in output_dir is the user's, as a label that was
    corrected there, and `overwrite` does not say that it may go.
    """
    for name, value, least in (("count", count, 1), ("limit", limit, 0)):
        if value < least:
            raise ConfigError(f"{name} is {value} but must be at least {least}")
    own = OwnFiles(output_dir, overwrite=overwrite)
    own.require([output_dir / TOLD, output_dir / PAGE])  # before all photos are looked at
    own.require_unchanged()
    config = settings_of(run)
    data = load_training_data(config)
    taken = set(data.labelled["id"])  # where all have masks, they are the unlabelled ones too
    rows = data.unlabelled.select([i for i, name in enumerate(data.unlabelled["id"]) if name not in taken])
    if not len(rows):
        raise DataError(f"{run} has no unlabelled photos left to suggest; add photos without masks")
    if limit and len(rows) > limit:
        tell(f"looking at {limit} of {len(rows)} unlabelled photos, spread evenly by name; --limit 0 looks at all")
        rows = rows.select(spread(rows["id"][:], limit))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    committee = _committee(run, device)
    if len(committee) < 2:
        raise DataError(
            f"{run} kept a single version, which disagrees with nobody; train with --folds 5 or --previous_guidance"
        )
    need = need_of(run, data.source.class_names)
    side = config.image_size or LONGEST
    looked = [look(row, committee, side, data.source.bits) for row in progress(rows, desc="photos", unit="image")]
    chosen = choose(looked, need, count, looks_of(rows))
    best = Segmenter.from_pretrained(run / "best", device=device)
    found = [_reason(looked[i], need, data.source.class_names) for i in chosen]
    _write(own, rows.select(chosen), found, best)
    return found


def spread(names: Sequence[str], limit: int) -> list[int]:
    """The places of `limit` of more names, evenly spaced in their order: of each video some frames."""
    order = np.argsort(np.array(names), kind="stable")
    return [int(order[i]) for i in np.linspace(0, len(order) - 1, limit).round().astype(int)]


def need_of(run: Path, class_names: Sequence[str]) -> np.ndarray:
    """How much each class needs masks (C), from 0 to 1: by the lower end of its IoU's interval, so that a class counts
    that is known badly, or of which that is not known."""
    try:
        classes = json.loads((run / "result.json").read_text())["interval"]["classes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run} has no result with intervals; let it finish, or train it again") from error
    return np.array([1 - (classes.get(name, {}).get("low") or 0.0) / 100 for name in class_names])


def disagreement(probabilities: Tensor) -> Tensor:
    """How much N networks disagree at each pixel: (N, C, H, W) → (H, W), in nats; what the mean of their answers is
    less sure of than each of them (Houlsby et al., 2011)."""
    return _entropy(probabilities.mean(0)) - _entropy(probabilities.transpose(0, 1)).mean(0)


@torch.no_grad()
def look(row: dict, committee: Sequence[Segmenter], side: int, bits: int | None) -> Looked:
    """Ask the committee about a photo whose long side is brought to `side` if it is longer."""
    image = read_image(row, bits=bits)
    if max(image.size) > side:
        image = read_image(row, side, bits=bits)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(committee[0].device)
    said = [network(network.normalize(pixels), enlarged=False)[0].float().softmax(0) for network in committee]
    together = torch.stack(said)
    mean, doubt = together.mean(0), disagreement(together)
    per_class = torch.zeros(len(mean), device=doubt.device).index_add_(0, mean.argmax(0).flatten(), doubt.flatten())
    layout = adaptive_avg_pool2d(mean[None], GRID).flatten().double().cpu().numpy()
    mean_doubt = (per_class / doubt.numel()).double().cpu().numpy()
    return Looked(row["id"], mean_doubt, layout / np.linalg.norm(layout))


def choose(looked: Sequence[Looked], need: np.ndarray, count: int, looks: np.ndarray) -> list[int]:
    """The places of at most `count` photos, best first: the most needed disagreement, less what a photo has in common
    with those before it, and none of the scene of another while there are others. `looks` (N, 256): `looks_of` all."""
    scores = np.array([float(photo.disagreement @ need) for photo in looked])
    order = np.lexsort((np.array([photo.name for photo in looked]), -scores))
    kept = [int(i) for i in order[: 20 * count]]  # no other has a chance
    scene = dict(zip(kept, scenes([looked[i].name for i in kept], looks[kept]), strict=True))
    common = dict.fromkeys(kept, 0.0)
    chosen: list[int] = []
    while len(chosen) < min(count, len(kept)):
        taken = {scene[i] for i in chosen}
        free = [i for i in kept if i not in chosen]
        others = [i for i in free if scene[i] not in taken] or free
        best = max(others, key=lambda i: scores[i] * (1 - common[i]))
        chosen.append(best)
        for i in free:
            common[i] = max(common[i], float(looked[i].layout @ looked[best].layout))
    return chosen


def _committee(run: Path, device: torch.device) -> list[Segmenter]:
    """Every version of the network that a run, or its folds, kept."""
    own = versions_of(run, device)
    folds = [Segmenter.from_pretrained(part / "best", device=device) for part in parts_of(run) if part != run]
    return [network for network in (own.student, own.teacher, *own.previous, *folds) if network is not None]


def _reason(photo: Looked, need: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    parts = photo.disagreement * need
    most = [int(c) for c in np.argsort(-parts, kind="stable")[:2] if parts[c] > 0]
    why = " and ".join(names[c] for c in most)
    return {
        "image": photo.name,
        "score": round(float(parts.sum()), 6),
        "why": f"the versions disagree most where they see {why}" if most else "nothing is in doubt here",
        "classes": {name: round(float(parts[c]), 6) for c, name in enumerate(names)},
    }


def _write(own: OwnFiles, rows: datasets.Dataset, found: Sequence[dict[str, Any]], model: Segmenter) -> None:
    names, palette = list(model.config.id2label.values()), model.config.palette
    items = [Prelabelled(row["id"], row["image"], model.predict(open_cell(row, "image"))) for row in rows]
    pictures = [own.folder / "pictures" / f"{number:02d}.png" for number in range(1, len(items) + 1)]
    own.require(pictures)
    write_prelabels(own, items, names, palette)
    for row, path in zip(rows, pictures, strict=True):
        picture, content = model.overlay(open_cell(row, "image")), io.BytesIO()
        picture.thumbnail((900, 900))
        picture.save(content, "PNG")
        own.write(path, content.getvalue())
    own.write(own.folder / TOLD, (json.dumps(list(found), indent=2) + "\n").encode())
    shown = [{**row, "picture": f"pictures/{path.name}"} for row, path in zip(found, pictures, strict=True)]
    own.write(own.folder / PAGE, render(PAGE, found=shown).encode())


def _entropy(probabilities: Tensor) -> Tensor:
    """Over the first dimension."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(0)
