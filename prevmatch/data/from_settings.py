"""From settings to training data: the source that they name, divided as they say."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from prevmatch.config import ALL, DataConfig
from prevmatch.data import ade20k, camvid, cityscapes, coco, custom, pascal, shapes
from prevmatch.data.cells import limit_pixels
from prevmatch.data.colours import meaning_of, palette_colours, read_colours
from prevmatch.data.folds import hold_out_fold, require_own_data
from prevmatch.data.gate import require_trainable
from prevmatch.data.lists import labelled_list, published_splits
from prevmatch.data.sources import RGB, Source, TrainingData
from prevmatch.data.splits import amount, draw, every_nth, has_mask, select
from prevmatch.data.survey import presence
from prevmatch.data.tables import is_table, load_table
from prevmatch.errors import ConfigError, DataError

PublishedName = Literal["pascal", "cityscapes", "coco", "ade20k", "camvid"]
KNOWN = {"pascal": pascal, "cityscapes": cityscapes, "coco": coco, "ade20k": ade20k, "camvid": camvid}


def load_training_data(config: DataConfig) -> TrainingData:
    """Load the source that the settings name and divide it; raises ConfigError or DataError where that fails."""
    source = load_source(config)
    if config.labelled is not None:
        ids, note = _drawn(source, config.labelled, config.split_seed)
        labelled, unlabelled = select(source.train, ids)
        source = dataclasses.replace(source, notes=(*source.notes, note))
    else:
        labelled, unlabelled = select(source.train, *labelled_ids(source, config))
    if source.pixels is not None:
        if not len(unlabelled):
            unlabelled = labelled
            told = "every image has a mask: the labelled ones, without their masks, are the unlabelled ones too"
            source = dataclasses.replace(source, notes=(*source.notes, told))
        try:
            require_trainable(source, labelled, absent_allowed=config.allow_absent_classes)
        except DataError as error:
            raise custom.with_notes(error, source.notes) from error
    return TrainingData(source=source, labelled=labelled, unlabelled=unlabelled)


def load_source(config: DataConfig, *, known: tuple[str, ...] = ()) -> Source:
    """Load the data set that the settings name: its raw folder, its prepared form, or a Hub data set.

    `known` are the classes of a finished model, by which custom data that it did not see is evaluated whole.
    """
    limit_pixels(config.max_image_pixels)
    require_own_data(config)
    match config.dataset:
        case None:
            raise ConfigError("dataset is not set; name one, or hand the data to train() directly")
        case "shapes":
            return shapes.load_shapes()
        case "custom":
            source = custom.load_custom(config, known=known)
            return hold_out_fold(source, config) if config.fold is not None and not known else source
    place = config.dataset_name or config.data_dir
    if place is None:
        raise ConfigError(
            f"{config.dataset} needs --data_dir FOLDER, raw or prepared, or --dataset_name NAME of a prepared one"
        )
    if config.dataset_name is not None or is_table(Path(place)):
        data_set = KNOWN[config.dataset]
        return load_table(str(place), tuple(data_set.CLASSES), data_set.PALETTE)
    source = _load_raw(config.dataset, Path(place), config.splits_dir)
    if config.mask_colours is not None:
        source = dataclasses.replace(source, colours=_colours(config.mask_colours, source.class_names))
    return source


def _load_raw(dataset: PublishedName, folder: Path, splits_dir: str | None) -> Source:
    match dataset:
        case "pascal":
            return pascal.load_pascal(folder, splits_dir)
        case "cityscapes":
            return cityscapes.load_cityscapes(folder)
        case "coco":
            return coco.load_coco(folder)
        case "ade20k":
            return ade20k.load_ade20k(folder)
        case "camvid":
            return camvid.load_camvid(folder)


def _colours(mask_colours: str, class_names: tuple[str, ...]) -> tuple[tuple[RGB, int], ...]:
    """Class id of each colour, for masks that are pictures in the colours of a palette or of a file."""
    if mask_colours in ("voc", "cityscapes"):
        return tuple(palette_colours(mask_colours).items())
    names, _, colours = meaning_of(read_colours(Path(mask_colours)))
    if names != class_names:
        raise ConfigError(f"{mask_colours} must name the {len(class_names)} classes of the data set, in their order")
    return colours


def labelled_ids(source: Source, config: DataConfig) -> tuple[list[str], list[str] | None]:
    """Ids of the split's labelled images, and of the unlabelled ones; None for these means all the others."""
    ids = source.train["id"]
    if config.split in (None, ALL):
        return [ids[i] for i in np.flatnonzero(has_mask(source.train))], None
    assert config.dataset is not None
    assert config.split is not None
    if config.splits_dir is not None or published_splits(config.dataset):
        return labelled_list(config.dataset, config.split, config.splits_dir)
    return every_nth(ids, config.split), None


def _drawn(source: Source, wanted: str, seed: int) -> tuple[list[str], str]:
    """Ids of labelled images drawn from those with a mask, and what to tell about the draw."""
    masked = np.flatnonzero(has_mask(source.train))
    count = amount(wanted, len(masked))
    there = presence(source.train.select(masked), source)
    chosen = draw(there, count, seed=seed)
    ids = source.train["id"]
    absent = np.flatnonzero(~there[chosen].any(axis=0))
    without = f"; none of them shows {', '.join(source.class_names[i] for i in absent)}" if len(absent) else ""
    return [ids[i] for i in masked[chosen]], f"drew {count} of {len(masked)} masks, split_seed {seed}{without}"
