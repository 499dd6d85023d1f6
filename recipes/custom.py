"""Train on your own images: a few of them with masks, the others without.

    accelerate launch recipes/custom.py --data_dir my_data --output_dir outputs/mine

my_data/images/ holds all images, my_data/masks/ a mask of the same name for some of them: one class id per pixel, 255
= ignored. Class names come from my_data/classes.txt, one a line, or are found in the masks. Exports of labelme (VOC),
CVAT (`Segmentation mask`) and COCO JSON are understood as they are, and data sets on the Hub:

    accelerate launch recipes/custom.py --dataset_name user/name --mask_column label --labelled 10%

A fifth of the masks is held out for validation. Crop, image size, schedule and optimiser are fitted to data and
encoder (0 means that) and printed before training starts. The encoder is DINOv2-S on a GPU and MobileNetV2 on a CPU
unless --encoder names another. `prevmatch train` is the same without this file.
"""

from prevmatch.cli import run_recipe
from prevmatch.config import OWN_DATA

if __name__ == "__main__":
    run_recipe(OWN_DATA, __doc__)
