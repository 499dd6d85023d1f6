"""Train on your own images: a few of them with masks, the others without.

    accelerate launch recipes/custom.py --data_dir my_data --output_dir outputs/mine

my_data/images/ holds all images, my_data/masks/ a mask of the same name for some of them: one class id per pixel, 255
= ignored. Class names come from my_data/classes.txt, one a line, or are found in the masks. Exports of labelme (VOC),
CVAT (`Segmentation mask`) and COCO JSON are understood as they are, and data sets on the Hub:

    accelerate launch recipes/custom.py --dataset_name user/name --mask_column label --labelled 10%

A fifth of the masks is held out for validation. Crop, image size, schedule and optimiser are fitted to data and
encoder (0 means that) and printed before training starts. The encoder is DINOv2-S on a GPU and MobileNetV2 on a CPU
unless --encoder names another.
"""

from pathlib import Path

from prevmatch.cli import run_recipe
from prevmatch.config import TrainConfig

CUSTOM = TrainConfig(
    dataset="custom",
    image_size=0,
    crop_size=0,
    encoder="auto",
    epochs=0,
    batch_size=4,
    method="mean_teacher",
    partner="reversed",
    optimizer="adamw",
    lr=0,
    decoder_lr_multiplier=0,
    weight_decay=None,
    bank_policy="interval",  # needs no validation labels
    bank_interval=0,
    score="ema",
    output_dir=Path("outputs/custom"),
)

if __name__ == "__main__":
    run_recipe(CUSTOM, __doc__)
