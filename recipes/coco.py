r"""Train on COCO 2017 in 81 classes: 118,287 training and 5,000 validation images.

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/coco.py --data_dir coco \
        --split 1_512 --method prevmatch --output_dir outputs/coco_1_512

Splits: 1_512, 1_256, 1_128, 1_64, 1_32. Xception-65, batch 4 + 4 on each of two GPUs; on one GPU add
--gradient_accumulation_steps 2. Neither mIoU nor hours were measured here, and the tables at hand have none to expect.
"""

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

if __name__ == "__main__":
    run_recipe(COCO, __doc__)
