r"""Train on COCO 2017 in 81 classes: 118,287 training and 5,000 validation images.

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/coco.py --data_dir coco \
        --split 1_512 --method prevmatch --output_dir outputs/coco_1_512

Splits: 1_512, 1_256, 1_128, 1_64, 1_32. Xception-65, batch 4 + 4 on each of two GPUs; on one GPU add
--gradient_accumulation_steps 2. Neither mIoU nor hours were measured here, and the tables at hand have none to expect.
UniMatch V2's settings come with --encoder dinov2_small, dinov2_base or dinov2_large, and any method, or with --method
unimatch_v2: crops of 518, batch 4 + 4 on each of four GPUs. Its published mIoU for 1_512, 1_256, 1_128, 1_64, 1_32:
39.3 45.4 53.2 55.0 57.0 (small), 47.9 55.8 58.7 60.4 63.3 (base).
SemiVL's published settings come with --method semivl: CLIP as guide and encoder, crops of 512; its decoder is not
here, nor are its 50.1 52.8 53.6 55.4 56.5 to be expected.
"""

from dataclasses import replace
from pathlib import Path

from prevmatch.cli import run_recipe
from prevmatch.config import TrainConfig

COCO = TrainConfig(
    dataset="coco",
    split="1_512",
    crop_size=513,
    encoder="xception65.published",
    epochs=30,
    batch_size=4,
    total_batch_size=8,
    lr=0.004,
    decoder_lr_multiplier=10,
    confidence_threshold=0.95,
    previous_threshold=0.9,
    bank_policy="best",
    bank_capacity=5,
    bank_start_epoch=5,
    output_dir=Path("outputs/coco"),
)
# UniMatch V2's
COCO_DINOV2 = replace(
    COCO,
    encoder="dinov2_small",
    crop_size=518,
    epochs=20,
    batch_size=4,
    total_batch_size=16,
    optimizer="adamw",
    lr=5e-6,
    decoder_lr_multiplier=40,
    weight_decay=0.01,
)
VARIANTS = {
    "dinov2": COCO_DINOV2,
    "unimatch_v2": COCO_DINOV2,
    "semivl": replace(
        COCO,
        encoder="vit_base_patch16_clip_224.openai",
        crop_size=512,
        eval_window=512,
        epochs=10,
        optimizer="adamw",
        lr=4e-7,
        decoder_lr_multiplier=10_000,
        weight_decay=0.01,
    ),
}

if __name__ == "__main__":
    run_recipe(COCO, __doc__, VARIANTS)
