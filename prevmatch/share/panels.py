"""Panels: what the network and its guides make of a few fixed images, drawn while a run lasts.

Looking must not change the run: forwards run frozen, nothing is drawn at random, the bank's generator stays untouched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from prevmatch.bank import PreviousModels
from prevmatch.config import IGNORE_INDEX, TrainConfig
from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import RGB, TrainingData
from prevmatch.errors import DataError
from prevmatch.guides import Forward
from prevmatch.methods import Method
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter, enlarge
from prevmatch.run.state import TrainState
from prevmatch.share.pictures import colour_mask, grid, legend, stacked
from prevmatch.writing import write_picture

ROWS_PER_PART = 2
CELL = 200
DIFFERS = (220, 30, 60)
Cells = dict[str, Image.Image]


class Shown(NamedTuple):
    """An image of the panel: pixels as training crops them, and class ids (H, W) where there is a mask."""

    name: str
    image: Image.Image
    truth: np.ndarray | None


def draw_panel(
    state: TrainState,
    student: Segmenter,
    bank: PreviousModels,
    *,
    data: TrainingData,
    method: Method,
    frozen: Frozen,
    config: TrainConfig,
    accelerator: Accelerator,
) -> None:
    """Write output_dir/panels/epoch_NNNN.png if one is due after the epoch just recorded; trackers get it too.

    One row for each of a few validation and unlabelled images, cut to the middle `crop_size` pixels, so that a panel
    never takes more memory than training: image, truth, the student's classes, its pseudo-labels (white where its
    confidence is below the threshold), the same of the previous guidance, and where the two differ. The previous
    guidance is here the mean over the newest `ensemble_size` members of the bank, which is what its random draws
    average to.
    """
    due = config.panel_every and (state.epoch % config.panel_every == 0 or state.epoch == config.epochs)
    if not due or not accelerator.is_main_process:
        return
    shown = chosen_images(data, config)
    tensors = [torch.from_numpy(np.array(item.image)).permute(2, 0, 1)[None] for item in shown]
    images = [student.normalize(tensor.to(accelerator.device)) for tensor in tensors]
    answers = {"student": answers_of([frozen.tensors_of(student)], images, frozen.logits)}
    members = bank.latest(config.ensemble_size) if "previous" in method.guides else []
    if members:
        answers["previous"] = answers_of(members, images, frozen.logits)
    thresholds = {"student": config.confidence_threshold, "previous": config.previous_threshold}
    rows = [
        row_of(item, {name: answer[i] for name, answer in answers.items()}, thresholds, method, data.source.palette)
        for i, item in enumerate(shown)
    ]
    sheet = grid([list(row.values()) for row in rows], list(rows[0]), width=CELL)
    seen = classes_in(shown, answers)
    names = legend(
        [data.source.class_names[i] for i in seen], [data.source.palette[i] for i in seen], width=sheet.width
    )
    picture = stacked(sheet, names, note_below(sheet.width, state.epoch, shown, rows[0]))
    path = config.output_dir / "panels" / f"epoch_{state.epoch:04d}.png"
    try:
        write_picture(path, picture)
    except OSError as error:  # a full disk must not end a run for the sake of a picture
        tqdm.write(f"WARNING: {path} could not be written ({error.strerror}); training goes on")
        return
    track(picture, path, state.step, accelerator)


def chosen_images(data: TrainingData, config: TrainConfig) -> list[Shown]:
    """Validation and unlabelled images, evenly spaced in their lists: the same ones in every panel of a run."""
    shown = []
    for part, rows in (("validation", data.val), ("unlabelled", data.unlabelled)):
        places = np.linspace(0, len(rows) - 1, min(ROWS_PER_PART + 2, len(rows) + 2)).round().astype(int)[1:-1]
        for row in (rows[int(i)] for i in places):
            try:
                image, mask = read_pair(row, data.source, config.image_size)
            except DataError:  # an unlabelled image need not have a mask, nor a readable one
                image, mask = read_image(row, config.image_size), None
            box = middle(*image.size, config.crop_size)
            truth = None if mask is None else np.array(mask.crop(box))
            shown.append(Shown(f"{part} {row['id']}", image.crop(box), truth))
    return shown


def middle(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """The centred box (left, top, right, bottom) of at most `side` pixels each way."""
    left, top = max(0, width - side) // 2, max(0, height - side) // 2
    return left, top, left + min(width, side), top + min(height, side)


def answers_of(
    models: Sequence[Mapping[str, Tensor]], images: Sequence[Tensor], forward: Forward
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Class ids uint8 and confidences float32, each (H, W), of the models' mean logits for images (1, 3, H, W).

    One model at a time is on the device.
    """
    logits: list[Tensor | float] = [0.0] * len(images)
    for model in models:
        on_device = {name: tensor.to(images[0].device) for name, tensor in model.items()}
        logits = [total + forward(on_device, image) for total, image in zip(logits, images, strict=True)]
    answers = []
    for total, image in zip(logits, images, strict=True):
        assert isinstance(total, Tensor)
        confidence, ids = enlarge(total / len(models), image).softmax(dim=1)[0].max(dim=0)
        answers.append((ids.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy()))
    return answers


def row_of(
    item: Shown,
    answers: dict[str, tuple[np.ndarray, np.ndarray]],
    thresholds: dict[str, float],
    method: Method,
    palette: Sequence[RGB],
) -> Cells:
    """The pictures of one row by their captions."""
    unknown = Image.new("RGB", item.image.size, (235, 235, 235))
    row = {"image": item.image, "truth": unknown if item.truth is None else colour_mask(item.truth, palette)}
    for name, (ids, confidence) in answers.items():
        row[name] = colour_mask(ids, palette)
        if name in method.guides:
            accepted = np.where(confidence >= thresholds[name], ids, IGNORE_INDEX)
            row[f"{name}, from {thresholds[name]:g}"] = colour_mask(accepted, palette)
    if len(answers) == 2:
        pixels = np.array(item.image.convert("L").convert("RGB")) // 2 + 110
        pixels[answers["student"][0] != answers["previous"][0]] = DIFFERS
        row["they differ"] = Image.fromarray(pixels)
    return row


def classes_in(shown: Sequence[Shown], answers: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> list[int]:
    """The class ids that occur in the panel."""
    maps = [item.truth for item in shown if item.truth is not None]
    maps += [ids for answer in answers.values() for ids, _ in answer]
    return sorted({int(i) for ids in maps for i in np.unique(ids)} - {IGNORE_INDEX})


def note_below(width: int, epoch: int, shown: Sequence[Shown], captions: Cells) -> Image.Image:
    """A strip of text: which images these are, and how to read the columns."""
    lines = [f"after epoch {epoch}; rows: " + ", ".join(item.name for item in shown)]
    if any("from" in caption for caption in captions):
        lines.append("'from': pseudo-labels whose confidence reaches the threshold; white pixels do not count")
    if "they differ" in captions:
        lines.append("previous: mean of the newest kept versions; red: other class than the student's")
    strip = Image.new("RGB", (width, 20 * len(lines) + 6), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(strip).text((6, 20 * i), line, fill=(90, 90, 90), font=ImageFont.load_default(13))
    return strip


def track(picture: Image.Image, path: Path, step: int, accelerator: Accelerator) -> None:
    """Hand the panel to the trackers."""
    pixels = np.array(picture)[None]
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({"panel": pixels}, step=step, dataformats="NHWC")
        elif tracker.name == "trackio":
            import trackio

            tracker.log({"panel": trackio.Image(str(path))}, step=step)
        else:
            tracker.log_images({"panel": pixels}, step=step)
