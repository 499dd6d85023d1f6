"""Masks to look at again: where a network that never saw a mask is sure that it is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.reading import read_pair
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.results import settings_of
from prevmatch.share.pictures import colour_mask, grid, legend, stacked
from prevmatch.share.report_page import SUSPECTS
from prevmatch.studies.held_out import BINS, HeldOut
from prevmatch.writing import write_picture

CONTRADICTED = (220, 30, 60)


def contradictions(held: HeldOut) -> dict[str, tuple[float, dict[tuple[str, str], float]]]:
    """For each image, most contradicted first, the share in % of its pixels that are contradicted, and of which
    (labelled, said) pairs of classes.

    A pixel is contradicted where another class is said with at least the confidence that this class has, on average,
    on its own pixels: the rule of confident learning (Northcutt et al., 2021).
    """
    total, number = held.certain
    usual = np.divide(total, number, out=np.ones_like(total), where=number > 0)
    lowest = np.ceil(usual * BINS - 1e-9).astype(int).clip(0, BINS - 1)
    sure = np.arange(BINS)[:, None] >= lowest[None]
    found = {}
    for name, said in held.images.items():
        counts = (said.counts * sure[:, None, :]).sum(0)
        np.fill_diagonal(counts, 0)
        shares = 100 * counts / max(1, said.counts.sum())
        pairs = {
            (held.class_names[i], held.class_names[j]): float(shares[i, j])
            for i, j in sorted(zip(*np.nonzero(counts), strict=True), key=lambda place: -counts[place])
        }
        found[name] = (float(shares.sum()), pairs)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def ranking(held: HeldOut) -> list[dict[str, Any]]:
    """All masks, most doubtful first, as plain JSON values."""
    rows = []
    for name, (share, pairs) in contradictions(held).items():
        worst = next(iter(pairs.items()), None)
        said = f"labelled {worst[0][0]}, looks like {worst[0][1]}: {worst[1]:.1f} % of it" if worst else "as expected"
        rows.append({"image": name, "contradicted": round(share, 2), "why": said})
    return rows


def draw_suspicious(held: HeldOut, rows: list[dict[str, Any]], path: Path) -> None:
    """Write one picture of the most doubtful masks: image, mask, what is said instead, and where these differ."""
    pictures = []
    for row in rows[:SUSPECTS]:
        run = held.run_of[row["image"]]
        config = settings_of(run)
        data = load_training_data(config)
        place = data.val["id"][:].index(row["image"])
        image, mask = read_pair(data.val[place], data.source, config.image_size)
        truth, said = np.array(mask), Segmenter.from_pretrained(run / "best").predict(image)
        pixels = np.array(image.convert("L").convert("RGB")) // 2 + 110
        pixels[(truth != said) & (truth != IGNORE_INDEX)] = CONTRADICTED
        pictures.append(
            [image, colour_mask(truth, held.palette), colour_mask(said, held.palette), Image.fromarray(pixels)]
        )
    sheet = grid(pictures, ["image", "its mask", "what a network says", "they differ"])
    write_picture(path, stacked(sheet, legend(held.class_names, held.palette, width=sheet.width)))
