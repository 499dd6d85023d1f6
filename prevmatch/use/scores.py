"""Scoring a finished model on a data set by the published protocol."""

import io
import json
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor

from prevmatch.config import DataConfig, TrainConfig
from prevmatch.data.from_settings import load_source
from prevmatch.data.loader import evaluation_loader, loader_deaths_named
from prevmatch.errors import DataError
from prevmatch.evaluate import class_iou
from prevmatch.models.encoder import patch_size
from prevmatch.models.frozen import Frozen
from prevmatch.models.saved import best_of_run
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.printable import printable
from prevmatch.run.processor import keep_freed_memory
from prevmatch.share.pictures import palette_mask

EVALUATION = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores in %, and how they were taken."""

    miou: float
    class_iou: dict[str, float]
    images: int
    model: str
    dataset: str
    window: int | None
    image_size: int | None

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
            *(f"| {name:<{width}} | {value:>5.2f} |" for name, value in scores.items()),
            f"| {'mean':<{width}} | {self.miou:>5.2f} |",
        ]
        return "\n".join(lines)


def of_run(model: str, data: DataConfig) -> tuple[str, DataConfig]:
    """The model folder and the data that are meant where `model` is a run's folder, or one of the models in it.

    Data that was held out from training is known only by the run's settings. Raises DataError if `data` names no data
    set and `model` belongs to no run.
    """
    folder = Path(model)
    run = next((f for f in (folder, *folder.parents[:2]) if (f / "result.json").is_file()), None)
    if data.dataset is None:
        if run is None:
            raise DataError(f"{model} is no run's output folder; name the data with --dataset and --data_dir")
        settings = json.loads((run / "config.json").read_text())
        trained = TrainConfig.from_json(settings)
        data = DataConfig(**{field.name: getattr(trained, field.name) for field in fields(DataConfig)})
    return best_of_run(model), data


@loader_deaths_named()
def score(
    model: str,
    data: DataConfig,
    *,
    window: int | None = None,
    num_workers: int = 2,
    maps: Path | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluate a folder or Hub repository on the validation images that `data` names, in fp32, each image once.

    `window` replaces the model's own protocol (a sliding window of that side; None keeps it). Where a folder `maps` is
    given, each image's class ids go there as ID.png, palette included, at the size they were evaluated at. Works in
    several processes too. Raises DataError if classes do not fit, ConfigError if a map would replace a file that this
    function did not write and `overwrite` does not say so, and the errors of loading model and data.
    """
    state = PartialState()
    if state.device.type == "cpu":
        keep_freed_memory()
    with state.local_main_process_first():
        source = load_source(data)
    network = Segmenter.from_pretrained(model).to(state.device).to(memory_format=torch.channels_last)
    config = network.config
    if source.num_classes != config.num_classes:
        raise DataError(
            f"{model} knows {config.num_classes} classes, but {data.dataset} has {source.num_classes}; name the data "
            "set that it was trained for"
        )
    window = window or config.eval_window
    loader = evaluation_loader(
        source, image_size=config.image_size, rank=state.process_index, processes=state.num_processes,
        num_workers=num_workers,
    )  # fmt: skip
    own = OwnFiles(maps or Path(), overwrite=overwrite)
    names = source.val["id"][state.process_index :: state.num_processes] if maps else []
    paths = [own.folder.joinpath(*(p for p in Path(f"{name}.png").parts if p not in ("/", ".."))) for name in names]
    own.require(paths)
    places = iter(paths)

    def keep(ids: Tensor) -> None:
        file = io.BytesIO()
        palette_mask(ids.to(torch.uint8).cpu().numpy(), config.palette).save(file, "PNG")
        own.write(next(places), file.getvalue())

    scores = class_iou(
        Frozen(network).of(network),
        loader,
        num_classes=config.num_classes,
        normalize=network.normalize,
        window=window,
        inside=patch_size(config.encoder) > 1,
        device=state.device,
        reduce=partial(reduce, reduction="sum"),
        show=state.is_main_process,
        keep=None if maps is None else keep,
    )
    return Evaluation(
        miou=float(scores.mean()),
        class_iou=dict(zip(source.class_names, scores.tolist(), strict=True)),
        images=len(source.val),
        model=model,
        dataset=data.dataset or "",
        window=window,
        image_size=config.image_size,
    )


def write_evaluation(evaluation: Evaluation, folder: Path, *, overwrite: bool = False) -> None:
    """Write evaluation.json into `folder`; raises ConfigError if it replaced another file without `overwrite`."""
    own, path = OwnFiles(folder, overwrite=overwrite), folder / EVALUATION
    own.require([path])
    own.write(path, (json.dumps(asdict(evaluation), indent=2) + "\n").encode())
