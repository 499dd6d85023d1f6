r"""Train on Cityscapes: 19 classes of driving scenes, 2,975 training and 500 validation images of 2048×1024.

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/cityscapes.py --data_dir cityscapes \
        --split 1_16 --method prevmatch --output_dir outputs/cityscapes_1_16

Splits: 1_30, 1_16, 1_8, 1_4, 1_2. ResNet-101: --encoder resnet101s. Batch 4 + 4 on each of two GPUs; on one GPU
--gradient_accumulation_steps 2 keeps the steps, and the weight of the previous guidance, as published.
Published mIoU of PrevMatch, % (best epoch; not measured here), for 1_16, 1_8, 1_4, 1_2: ResNet-50 75.8 77.8 78.8
79.2, ResNet-101 77.7 78.9 80.1 80.1. Its public logs took 19 to 32 hours (ResNet-50) and 18 to 38 (ResNet-101) on two
GPUs. Supervised: 63.3 70.2 73.1 76.6 and 66.3 72.8 75.0 78.0.
UniMatch V2's settings come with --encoder dinov2_small, dinov2_base or dinov2_large, and any method, or with --method
unimatch_v2: crops of 798, batch 2 + 2 on each of four GPUs of 80 GB, or less with --gradient_checkpointing. Its
published mIoU: 80.6 81.9 82.4 82.6 (small), 83.6 84.3 84.5 85.1 (base); PrevMatch's with these encoders is not known.
Settings that were published with other methods come with --method augseg, cps, co_training or semivl. AugSeg: crops of
800, batch 4 + 4 on each of four GPUs; 75.2 77.8 79.6 80.4 with --encoder resnet101s. CPS: crops of 800, 137 epochs
(for 1_8), batch 2 + 2 on each of four GPUs. Co-training: crops of 769, as many GPUs; 76.5 77.9 for 1_8 and 1_4 with
pvt_v2_b2 for the SegFormer it is close to. SemiVL: CLIP as guide and encoder, crops of 800; its decoder is not here,
nor are its 77.9 79.4 80.3 80.6 to be expected. Dual Teacher's settings for this data are not public: it takes the
recipe's own.
PNG files of this size take long to decode: `prevmatch prepare cityscapes --decoded` stores pixels.
"""

from dataclasses import replace
from pathlib import Path

from prevmatch.cli import run_recipe
from prevmatch.config import TrainConfig

CITYSCAPES = TrainConfig(
    dataset="cityscapes",
    split="1_16",
    crop_size=801,
    eval_window=801,
    encoder="resnet50s",
    epochs=240,
    batch_size=4,
    total_batch_size=8,
    lr=0.005,
    decoder_lr_multiplier=1,
    supervised_loss="ohem",
    ohem_threshold=0.7,
    ohem_min_kept=200_000,
    confidence_threshold=0,
    previous_threshold=0,  # pixelavg knows no threshold
    previous_weighting="pixelavg",  # about batch-size times a mean, which is what the published runs used
    bank_policy="best",
    output_dir=Path("outputs/cityscapes"),
)
# UniMatch V2's
CITYSCAPES_DINOV2 = replace(
    CITYSCAPES,
    encoder="dinov2_small",
    crop_size=798,
    eval_window=798,
    epochs=180,
    batch_size=2,
    total_batch_size=8,
    confidence_threshold=0.95,
    previous_threshold=0.9,
    previous_weighting="pixelwise",
    optimizer="adamw",
    lr=5e-6,
    decoder_lr_multiplier=40,
    weight_decay=0.01,
)
VARIANTS = {
    "dinov2": CITYSCAPES_DINOV2,
    "unimatch_v2": CITYSCAPES_DINOV2,
    "augseg": replace(
        CITYSCAPES,
        crop_size=800,
        eval_window=800,
        total_batch_size=16,
        lr=0.01,
        weight_decay=5e-4,
        ohem_min_kept=100_000,
        ema_decay=0.996,
    ),
    "cps": replace(CITYSCAPES, crop_size=800, eval_window=800, epochs=137, batch_size=2, lr=0.02, peer_weight=5),
    "co_training": replace(
        CITYSCAPES, crop_size=769, eval_window=769, batch_size=2, co_encoders=("resnet50.dct", "pvt_v2_b2")
    ),
    "semivl": replace(
        CITYSCAPES,
        encoder="vit_base_patch16_clip_224.openai",
        crop_size=800,
        eval_window=800,
        epochs=225,
        optimizer="adamw",
        lr=5e-6,
        decoder_lr_multiplier=100,
        weight_decay=0.01,
    ),
}

if __name__ == "__main__":
    run_recipe(CITYSCAPES, __doc__, VARIANTS)
