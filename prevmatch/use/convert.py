"""Released checkpoints made into what this package loads: model folders, and encoder weights with timm's names."""

import dataclasses
from pathlib import Path

from safetensors.torch import save_file

from prevmatch.data import ade20k, cityscapes, coco, pascal
from prevmatch.errors import CheckpointError
from prevmatch.models.published import ENCODERS, backbone_of, published_config, read_released, segmenter_state
from prevmatch.models.saved import load_strictly
from prevmatch.models.segmenter import Segmenter

CITYSCAPES_WINDOW, CITYSCAPES_WINDOW_OF_DINOV2 = 801, 798
DATASETS = {len(module.CLASSES): module for module in (pascal, cityscapes, coco, ade20k)}
"""The data sets of the released checkpoints, which their class counts tell apart."""


def convert(path: Path, output_dir: Path) -> str:
    """Convert a released .pth of PrevMatch or UniMatch V2; returns what it is, in a sentence.

    A segmentation checkpoint becomes a folder that `Segmenter.from_pretrained` loads, with the classes, palette and
    evaluation protocol of its data set; a bare backbone becomes `encoder.safetensors` in it, for --encoder_weights.
    Raises CheckpointError if the file is neither, or would replace what is in output_dir.
    """
    state = read_released(path)
    backbone = backbone_of(state)
    named = segmenter_state(state, backbone)
    dinov2 = backbone.startswith("dinov2")
    classifier = named.get("decoder.classifier.2.weight" if dinov2 else "decoder.classifier.weight")
    if classifier is None:
        weights = output_dir / "encoder.safetensors"
        if weights.exists():
            raise CheckpointError(f"{weights} is there already; choose another --output_dir, or remove it")
        output_dir.mkdir(parents=True, exist_ok=True)
        save_file(
            {k.removeprefix("encoder.").removeprefix("body."): v.contiguous() for k, v in named.items()}, weights
        )
        return f"{backbone} without decoder: train with --encoder {ENCODERS[backbone]} --encoder_weights {weights}"
    num_classes = len(classifier)
    data = DATASETS.get(num_classes)
    if data is None:
        raise CheckpointError(
            f"{path} has {num_classes} classes; those of the published data sets are 19, 21, 81, 150"
        )
    config = dataclasses.replace(
        published_config(backbone, num_classes),
        class_names=data.CLASSES,
        palette=data.PALETTE,
        eval_window=(CITYSCAPES_WINDOW_OF_DINOV2 if dinov2 else CITYSCAPES_WINDOW) if data is cityscapes else None,
    )
    model = Segmenter(config)
    load_strictly(model, named, path)
    model.save_pretrained(output_dir)
    return f"{backbone} for {data.__name__.rpartition('.')[2]}: {output_dir}"
