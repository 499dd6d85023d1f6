r"""Train on ADE20K scene parsing: 150 classes, 20,210 training and 2,000 validation images.

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/ade20k.py \
        --data_dir ADEChallengeData2016 --split 1_128 --method prevmatch --output_dir outputs/ade20k_1_128

Splits: 1_128, 1_64, 1_32, 1_16, 1_8. ResNet-101: --encoder resnet101s. Batch 4 + 4 on each of two GPUs; on one GPU add
--gradient_accumulation_steps 2. Neither mIoU nor hours were measured here, and the tables at hand have none to expect.
UniMatch V2's settings come with --encoder dinov2_small, dinov2_base or dinov2_large, and any method, or with --method
unimatch_v2: crops of 518, batch 2 + 2 on each of four GPUs. Its published mIoU for 1_64, 1_32, 1_16, 1_8: 31.5 38.1
40.7 44.4 (small), 38.7 45.0 46.7 49.8 (base), 40.0 45.0 49.3 52.1 (large).
Dual Teacher's published settings for this data come with --method dual_teacher: pvt_v2_b1 for the SegFormer it is
close to, 50,000 steps, the rate falling by the recipe's curve instead of a line; an epoch, and so a teacher's turn, is
a pass over the labelled images there and 2,000 unlabelled ones here. SemiVL's come with --method semivl: CLIP as guide
and encoder, crops of 512; its decoder is not here, nor are its 33.7 35.1 37.2 39.4 to be expected.
"""

from dataclasses import replace
from pathlib import Path

from prevmatch.cli import run_recipe
from prevmatch.config import TrainConfig

ADE20K = TrainConfig(
    dataset="ade20k",
    split="1_128",
    crop_size=513,
    encoder="resnet50s",
    epochs=40,
    batch_size=4,
    total_batch_size=8,
    lr=0.004,
    decoder_lr_multiplier=10,
    confidence_threshold=0.95,
    previous_threshold=0.9,
    bank_policy="best",
    bank_capacity=5,
    bank_start_epoch=5,
    output_dir=Path("outputs/ade20k"),
)
# UniMatch V2's
ADE20K_DINOV2 = replace(
    ADE20K,
    encoder="dinov2_small",
    crop_size=518,
    epochs=60,
    batch_size=2,
    total_batch_size=8,
    optimizer="adamw",
    lr=5e-6,
    decoder_lr_multiplier=40,
    weight_decay=0.01,
)
VARIANTS = {
    "dinov2": ADE20K_DINOV2,
    "unimatch_v2": ADE20K_DINOV2,
    "dual_teacher": replace(
        ADE20K,
        encoder="pvt_v2_b1",
        crop_size=512,
        epochs=200,
        epoch_images=2000,
        optimizer="adamw",
        lr=6e-5,
        weight_decay=0.01,
        warmup_steps=1500,
    ),
    "semivl": replace(
        ADE20K,
        encoder="vit_base_patch16_clip_224.openai",
        crop_size=512,
        eval_window=512,
        optimizer="adamw",
        lr=4e-7,
        decoder_lr_multiplier=10_000,
        weight_decay=0.01,
    ),
}

if __name__ == "__main__":
    run_recipe(ADE20K, __doc__, VARIANTS)
