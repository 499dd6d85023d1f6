"""Scoring a finished model on a data set by the published protocol."""

import io
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from prevmatch.config import DataConfig, SegmenterConfig
from prevmatch.data.from_settings import load_source
from prevmatch.data.lists import first_five
from prevmatch.data.loader import evaluation_loader, loader_deaths_named
from prevmatch.data.sources import Source
from prevmatch.errors import DataError
from prevmatch.evaluate import class_iou
from prevmatch.models.encoder import patch_size
from prevmatch.models.frozen import Frozen
from prevmatch.models.saved import best_of_run
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.printable import printable
from prevmatch.run.processor import keep_freed_memory
from prevmatch.run.results import settings_of
from prevmatch.run.validation import evaluations, read_validation
from prevmatch.share.pictures import palette_mask

EVALUATION = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores in %, and how they were taken."""

    miou: float
    """The mean of those that count."""
    class_iou: dict[str, float | None]
    """None for a class that does not count, as it does not occur."""
    images: int
    model: str
    dataset: str
    window: int | None
    image_size: int | None
    notes: tuple[str, ...] = ()
    """What is to be known of the data."""

    def table(self) -> str:
        """The scores as a Markdown table."""
        scores = {printable(name): value for name, value in self.class_iou.items()}
        width = max(map(len, (*scores, "class")))
        protocol = f"sliding window of {self.window}" if self.window else "whole images"
        size = f", long side {self.image_size}" if self.image_size else ""
        lines = [
            f"{self.model} on {self.images} validation images of {self.dataset}, {protocol}{size}, fp32",
            "",
            f"| {'class':<{width}} | IoU % |",
            f"|-{'-' * width}-|------:|",
            *(
                f"| {name:<{width}} | {'absent' if value is None else f'{value:.2f}':>5} |"
                for name, value in scores.items()
            ),
            f"| {'mean':<{width}} | {self.miou:>5.2f} |",
        ]
        counting = sum(value is not None for value in self.class_iou.values())
        if counting < len(self.class_iou):
            lines[0] += f", mean over the {counting} of {len(self.class_iou)} classes that occur"
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Meant:
    """What is to be evaluated on what."""

    model: str
    data: DataConfig
    apart: bool = False
    """Whether the model was trained on other own data than this, of which then nothing was held out."""
    note: str = ""
    held_out: tuple[str, ...] = ()
    """Ids of the images that the run held out of this own data; empty where others count."""


def of_run(model: str, data: DataConfig, named: Collection[str] = ()) -> Meant:
    """The model folder and the data that are meant where `model` is a run's folder, or one of the models in it.

    Settings of `data` that are `named` go before those of the run, by which alone it is known what was held out from
    its training. Raises DataError if `data` names no data set and `model` belongs to no run.
    """
    folder = Path(model)
    run = next((f for f in (folder, *folder.parents[:2]) if (f / "result.json").is_file()), None)
    if run is None:
        if data.dataset is None:
            raise DataError(f"{model} is no run's output folder; name the data with --dataset and --data_dir")
        return Meant(model=best_of_run(model), data=data)
    run_config = settings_of(run)
    trained = DataConfig(**{field.name: getattr(run_config, field.name) for field in fields(DataConfig)})
    if data.dataset not in (None, trained.dataset):
        return Meant(model=best_of_run(model), data=data)
    changed = {name: getattr(data, name) for name in named}
    if {"data_dir", "dataset_name"} & changed.keys():
        changed = {"data_dir": None, "dataset_name": None} | changed
    meant = replace(trained, **changed)
    apart = meant.dataset == "custom" and _place(meant) != _place(trained)
    others = [name for name in HELD_OUT_BY if getattr(meant, name) != getattr(trained, name)]
    note = (
        f"WARNING: with another {' and '.join(others)} than in training, the model was trained on some of these images"
    )
    same = meant.dataset == "custom" and not others and not apart
    return Meant(
        model=best_of_run(model),
        data=meant,
        apart=apart,
        note=note if others and not apart else "",
        held_out=read_validation(max(files.items())[1]).ids if same and (files := evaluations(run)) else (),
    )


HELD_OUT_BY = ("val_share", "split_seed", "val_part", "train_parts", "folds", "fold")
"""Settings on which it depends what own data trained and what was held out."""


def _place(data: DataConfig) -> str | Path | None:
    return data.dataset_name or (data.data_dir and data.data_dir.resolve())


@loader_deaths_named()
def score(
    model: str,
    data: DataConfig,
    *,
    apart: bool = False,
    held_out: Sequence[str] = (),
    window: int | None = None,
    num_workers: int = 2,
    maps: Path | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluate a folder or Hub repository on the validation images that `data` names, in fp32, each image once.

    `apart` says that the model saw nothing of this own data: without a validation part all its masks count.
    `held_out` are the images to score on, though others would be drawn now that there are more masks. `window`
    replaces the model's own protocol (a sliding window of that side; None keeps it). Where a folder `maps` is given,
    each image's class ids go there as ID.png, palette included, at the size they were evaluated at. Works in several
    processes too. Raises DataError if classes do not fit or an image is gone, ConfigError if a map would replace a
    file that this function did not write and `overwrite` does not say so, and the errors of loading model and data.
    """
    state = PartialState()
    if state.device.type == "cpu":
        keep_freed_memory()
    network = Segmenter.from_pretrained(model).to(state.device).to(memory_format=torch.channels_last)
    config = network.config
    with state.local_main_process_first():
        source = load_source(data, known=config.class_names if apart else ())
    notes = source.notes if apart else ()
    if held_out and sorted(held_out) != sorted(source.val["id"]):
        source = _validated_on(source, held_out)
        notes = (f"on the {len(held_out)} images that the run held out; of the data as it is now others would be",)
    _require_fitting(model, config, data, source)
    window = window or config.eval_window
    loader = evaluation_loader(
        source, image_size=config.image_size, rank=state.process_index, processes=state.num_processes,
        num_workers=num_workers,
    )  # fmt: skip
    keep = None
    if maps is not None:
        ids = source.val["id"][state.process_index :: state.num_processes]
        keep = _keeper(OwnFiles(maps, overwrite=overwrite), ids, config.palette)
    scores = class_iou(
        Frozen(network).of(network),
        loader,
        num_classes=config.num_classes,
        normalize=network.normalize,
        window=window,
        inside=patch_size(config.encoder) > 1,
        device=state.device,
        reduce=partial(reduce, reduction="sum"),
        absent=source.absent_score,
        show=state.is_main_process,
        keep=keep,
    )
    return Evaluation(
        miou=float(scores[~scores.isnan()].mean()),
        class_iou={
            name: None if value != value else value
            for name, value in zip(source.class_names, scores.tolist(), strict=True)
        },
        images=len(source.val),
        model=model,
        dataset=str(_place(data)) if apart else data.dataset or "",
        window=window,
        image_size=config.image_size,
        notes=tuple(notes),
    )


def _validated_on(source: Source, ids: Sequence[str]) -> Source:
    """The same data with these images to validate on; DataError if one, or its mask, is not there."""
    rows = datasets.concatenate_datasets([source.train, source.val])
    place = {name: i for i, name in enumerate(rows["id"])}
    masks = rows.select_columns(["mask"])
    if missing := [name for name in ids if name not in place or masks[place[name]]["mask"] is None]:
        raise DataError(
            f"{len(missing)} of the {len(ids)} images that the run held out, or their masks, are gone from its data, "
            f"{first_five(missing)}; restore them, or evaluate on other data with --data_dir"
        )
    return replace(source, val=rows.select([place[name] for name in ids]))


def _require_fitting(model: str, config: SegmenterConfig, data: DataConfig, source: Source) -> None:
    """Raise DataError if nothing is left to score the model on, or its classes are not the data's."""
    if not len(source.val):
        raise DataError(
            f"{model} held no mask of its data out, so none is left to evaluate it on; the number of its "
            "folds is in result.json, or name other data"
        )
    if data.dataset == "custom" and config.class_names not in ((), source.class_names):
        raise DataError(
            f"{model} knows the classes {', '.join(config.class_names)}, but the data has "
            f"{', '.join(source.class_names)}; name those of the model in the same order"
        )
    if source.num_classes != config.num_classes:
        raise DataError(
            f"{model} knows {config.num_classes} classes, but {data.dataset} has {source.num_classes}; name the data "
            "set that it was trained for"
        )


def _keeper(own: OwnFiles, ids: Sequence[str], palette: Sequence[tuple[int, int, int]]) -> Callable[[Tensor], None]:
    """What writes one image's class ids (H, W) after the other, in the order of `ids`, as ID.png.

    Raises ConfigError before anything is written if that would replace a foreign file.
    """
    paths = [own.folder.joinpath(*(p for p in Path(f"{id}.png").parts if p not in ("/", ".."))) for id in ids]
    own.require(paths)
    places = iter(paths)

    def keep(mask: Tensor) -> None:
        file = io.BytesIO()
        palette_mask(mask.to(torch.uint8).cpu().numpy(), palette).save(file, "PNG")
        own.write(next(places), file.getvalue())

    return keep


def write_evaluation(evaluation: Evaluation, folder: Path, *, overwrite: bool = False) -> None:
    """Write evaluation.json into `folder`; raises ConfigError if it replaced another file without `overwrite`."""
    own, path = OwnFiles(folder, overwrite=overwrite), folder / EVALUATION
    own.require([path])
    own.write(path, (json.dumps(asdict(evaluation), indent=2) + "\n").encode())
