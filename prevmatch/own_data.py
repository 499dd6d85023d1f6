"""The settings for a user's own data, of `prevmatch train`, `prevmatch check` and recipes/custom.py."""

from pathlib import Path

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
