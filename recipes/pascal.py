"""Train on PASCAL VOC 2012 with SBD's masks: 21 classes, 10,582 training and 1,449 validation images.

    accelerate launch recipes/pascal.py --data_dir VOC2012 --split 92 --method prevmatch --output_dir outputs/pascal_92

Splits: 92, 183, 366, 732, 1464 (original protocol), 1_16, 1_8, 1_4 (blended), priority_1_16, priority_1_8,
priority_1_4. ResNet-101: --encoder resnet101s. The 513 rows: --crop_size 513. Batch 8 + 8, one GPU.
Published mIoU of PrevMatch, % (best epoch; not measured here), at 321 for 92, 183, 366, 732, 1464:
ResNet-50 73.4 75.4 77.5 78.6 79.3, ResNet-101 77.0 78.5 79.6 80.4 81.6. Its public logs took 7.5 to 19 hours
(ResNet-50) and 13 to 23 (ResNet-101). Supervised: 44.0 52.3 61.7 66.7 72.9 (ResNet-50, at 513).
UniMatch V2's settings come with --encoder dinov2_small, dinov2_base or dinov2_large, and any method, or with --method
unimatch_v2: crops of 518, batch 4 + 4 on each of four GPUs. Its published mIoU: 79.0 85.5 85.9 86.7 87.8 (small), 86.3
87.9 88.9 90.0 90.8 (base), 86.4 87.6 90.3 91.1 91.2 (large) in 5.7, 13.2 and 33.3 hours for 92; PrevMatch's with these
encoders is not known.
Settings that were published with other methods come with --method augseg, cps, co_training or semivl. AugSeg: crops of
513, batch 8 + 8 on each of two GPUs; 71.1 75.5 78.8 80.3 81.4 with --encoder resnet101s. CPS: crops of 512, 34 epochs
(for 1_8), batch 2 + 2 on each of four GPUs. Co-training: batch 4 + 4 on each of four GPUs; 75.4 76.8 79.6 80.4 81.6
with --encoder resnet101s --co_encoders resnet101.dct pvt_v2_b3, where pvt_v2 stands for the SegFormer it is close to.
SemiVL: CLIP as guide and encoder, crops of 512, batch 4 + 4 on each of two GPUs; its decoder is not here, nor are its
84.0 85.6 86.0 86.7 87.3 to be expected. Dual Teacher's settings for this data are not public: it takes the recipe's
own.
"""

from dataclasses import replace
from pathlib import Path

from prevmatch.cli import run_recipe
from prevmatch.config import TrainConfig

PASCAL = TrainConfig(
    dataset="pascal",
    split="92",
    crop_size=321,
    encoder="resnet50s",
    epochs=80,
    batch_size=8,
    total_batch_size=8,
    lr=0.001,
    decoder_lr_multiplier=10,
    confidence_threshold=0.95,
    previous_threshold=0.9,
    bank_policy="best",  # as published: it follows the validation labels
    output_dir=Path("outputs/pascal"),
)
# UniMatch V2's
PASCAL_DINOV2 = replace(
    PASCAL,
    encoder="dinov2_small",
    crop_size=518,
    epochs=60,
    batch_size=4,
    total_batch_size=16,
    optimizer="adamw",
    lr=5e-6,
    decoder_lr_multiplier=40,
    weight_decay=0.01,
)
VARIANTS = {
    "dinov2": PASCAL_DINOV2,
    "unimatch_v2": PASCAL_DINOV2,
    "augseg": replace(PASCAL, crop_size=513, total_batch_size=16),
    # Of CPS no other rate for the decoder is known.
    "cps": replace(PASCAL, crop_size=512, epochs=34, batch_size=2, lr=0.01, decoder_lr_multiplier=1),
    "co_training": replace(
        PASCAL,
        batch_size=4,
        total_batch_size=16,
        lr=0.002,
        confidence_threshold=0,
        co_encoders=("resnet50.dct", "pvt_v2_b2"),
    ),
    "semivl": replace(
        PASCAL,
        encoder="vit_base_patch16_clip_224.openai",
        crop_size=512,
        eval_window=512,
        batch_size=4,
        optimizer="adamw",
        lr=1e-6,
        decoder_lr_multiplier=1000,
        weight_decay=0.01,
    ),
}

if __name__ == "__main__":
    run_recipe(PASCAL, __doc__, VARIANTS)
