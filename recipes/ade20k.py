r"""Train on ADE20K scene parsing: 150 classes, 20,210 training and 2,000 validation images.

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/ade20k.py \
        --data_dir ADEChallengeData2016 --split 1_128 --method prevmatch --output_dir outputs/ade20k_1_128

Splits: 1_128, 1_64, 1_32, 1_16, 1_8. ResNet-101: --encoder resnet101s. Batch 4 + 4 on each of two GPUs; on one GPU add
--gradient_accumulation_steps 2. Neither mIoU nor hours were measured here, and the tables at hand have none to expect.
UniMatch V2's settings come with --encoder dinov2_small, dinov2_base or dinov2_large, and any method, or with --method
unimatch_v2: crops of 518, batch 2 + 2 on each of four GPUs. Its published mIoU for 1_64, 1_32, 1_16, 1_8: 31.5 38.1
40.7 44.4 (small), 38.7 45.0 46.7 49.8 (base), 40.0 45.0 49.3 52.1 (large).
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

if __name__ == "__main__":
    run_recipe(ADE20K, __doc__, dinov2=ADE20K_DINOV2)
