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

from prevmatch.config import IGNORE_INDEX, TrainConfig
from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import RGB, TrainingData
from prevmatch.errors import DataError
from prevmatch.models.segmenter import at_least_float32, enlarge
from prevmatch.run.state import TrainState
from prevmatch.share.pictures import colour_mask, grid, legend, stacked
from prevmatch.students import Student
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


class Answer(NamedTuple):
    """What somebody says of an image."""

    ids: np.ndarray
    """Class ids uint8 (H, W)."""
    counts: np.ndarray | None
    """Which of them count as pseudo-labels, bool (H, W); None for somebody who is no guide."""


def draw_panel(
    state: TrainState, student: Student, *, data: TrainingData, config: TrainConfig, accelerator: Accelerator
) -> None:
    """Write output_dir/panels/epoch_NNNN.png if one is due after the epoch just recorded; trackers get it too.

    One row for each of a few validation and unlabelled images, cut to the middle `crop_size` pixels, so that a panel
    never takes more memory than training: image, truth, the student's classes; of each guide its classes and what
    counts of them; and where the last guide and the student differ.
    """
    due = config.panel_every and (state.epoch % config.panel_every == 0 or state.epoch == config.epochs)
    if not due or not accelerator.is_main_process:
        return
    shown = chosen_images(data, config)
    if not shown:  # nothing validates and nothing is unlabelled
        return
    tensors = [torch.from_numpy(np.array(item.image)).permute(2, 0, 1)[None] for item in shown]
    images = [student.network.normalize(tensor.to(accelerator.device)) for tensor in tensors]
    answers = [answers_of(student, image) for image in images]
    rows = [row_of(item, said, data.source.palette) for item, said in zip(shown, answers, strict=True)]
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
    """Validation and unlabelled images, if any, evenly spaced in their lists: the same in every panel of a run."""
    shown = []
    for part, rows in (("validation", data.val), ("unlabelled", data.unlabelled)):
        places = np.linspace(0, len(rows) - 1, min(ROWS_PER_PART + 2, len(rows) + 2)).round().astype(int)[1:-1]
        for row in (rows[int(i)] for i in places):
            try:
                image, mask = read_pair(row, data.source, config.image_size)
            except DataError:  # an unlabelled image need not have a mask, nor a readable one
                image, mask = read_image(row, config.image_size, bits=data.source.bits), None
            box = middle(*image.size, config.crop_size)
            truth = None if mask is None else np.array(mask.crop(box))
            shown.append(Shown(f"{part} {row['id']}", image.crop(box), truth))
    return shown


def middle(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """The centred box (left, top, right, bottom) of at most `side` pixels each way."""
    left, top = max(0, width - side) // 2, max(0, height - side) // 2
    return left, top, left + min(width, side), top + min(height, side)


@torch.no_grad()
def answers_of(student: Student, image: Tensor) -> dict[str, Answer]:
    """What the student and its guides say of an image (1, 3, H, W), by name; not of guides that have nothing yet."""
    answers = {}
    if all(guide.name != "student" for guide in student.guides):
        own = enlarge(student.versions.frozen.answer(student.network, image), image)
        answers["student"] = Answer(own.argmax(dim=1)[0].to(torch.uint8).cpu().numpy(), None)
    for guide in student.guides:
        logits = guide.preview(image)
        if logits is not None:
            confidence, ids = enlarge(at_least_float32(logits), image).softmax(dim=1).max(dim=1)
            counts = guide.accepts(ids, confidence)[0].cpu().numpy()
            answers[guide.name] = Answer(ids[0].to(torch.uint8).cpu().numpy(), counts)
    return answers


def row_of(item: Shown, answers: Mapping[str, Answer], palette: Sequence[RGB]) -> Cells:
    """The cells of one image, by their captions."""
    unknown = Image.new("RGB", item.image.size, (235, 235, 235))
    row = {"image": item.image, "truth": unknown if item.truth is None else colour_mask(item.truth, palette)}
    for name, (ids, counts) in answers.items():
        row[name] = colour_mask(ids, palette)
        if counts is not None:
            row[f"{name}, what counts"] = colour_mask(np.where(counts, ids, IGNORE_INDEX), palette)
    *_, last = answers
    if last != "student":
        pixels = np.array(item.image.convert("L").convert("RGB")) // 2 + 110
        pixels[answers["student"].ids != answers[last].ids] = DIFFERS
        row["they differ"] = Image.fromarray(pixels)
    return row


def classes_in(shown: Sequence[Shown], answers: Sequence[Mapping[str, Answer]]) -> list[int]:
    """The class ids that occur in the panel."""
    maps = [item.truth for item in shown if item.truth is not None]
    maps += [answer.ids for said in answers for answer in said.values()]
    return sorted({int(i) for ids in maps for i in np.unique(ids)} - {IGNORE_INDEX})


def note_below(width: int, epoch: int, shown: Sequence[Shown], captions: Cells) -> Image.Image:
    """A strip of text: which images these are, and how to read the columns."""
    lines = [f"after epoch {epoch}; rows: " + ", ".join(item.name for item in shown)]
    if any("what counts" in caption for caption in captions):
        lines.append("what counts: pseudo-labels whose confidence reaches the threshold; white pixels do not count")
    if "they differ" in captions:
        lines.append("previous: mean of the newest kept versions; red: the last guide says another class")
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
