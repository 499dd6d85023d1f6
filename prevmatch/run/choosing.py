"""Which encoder `auto` means: DINOv2-S with DPT on a GPU, a small convolutional one on a CPU."""

import dataclasses

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from huggingface_hub import HfApi, try_to_load_from_cache

from prevmatch.config import TrainConfig, full_name
from prevmatch.models.encoder import weights_source
from prevmatch.run.launch import earlier_settings, has_gpu

LARGE, SMALL = full_name("dinov2_small"), "mobilenetv2_100"
WEIGHTS_FILE = "model.safetensors"
SECONDS = 10
"""How long the Hub may take to answer."""

# Seconds of a training pass over 2 images of 321 pixels on one CPU core: mobilenetv2_100 1.41, convnext_atto 1.42,
# mobilenetv3_large_100 1.51, tf_efficientnet_lite0 1.55, resnet18 1.91, DINOv2-S 2.52, resnet50s 3.72. MobileNetV2 has
# the fewest parameters of them, 5.8 million with its decoder, and the README's measurements.
OTHER = {
    LARGE: f"--encoder {SMALL} has 6 million parameters instead of 25, takes less time and memory and scores lower",
    SMALL: "--encoder dinov2_small usually scores much higher, and takes about twice the time of a step on a CPU",
}


def choose_encoder(config: TrainConfig, accelerator: Accelerator) -> TrainConfig:
    """Name the encoder where the settings leave it open, and say in a line which, why and what the other one costs.

    A run that goes on keeps what it began with. Where the Hub cannot be reached and the weights are not on this
    machine, it is the small encoder, at worst with random weights.
    """
    if config.encoder != "auto":
        return config
    answer: list = [None]
    if accelerator.is_main_process:
        answer = [_of_earlier_run(config) or _fitting(config, gpu=has_gpu(accelerator))]
    encoder, weights, why = broadcast_object_list(answer)[0]
    source = weights_source(encoder) if weights == "timm" else None
    licence = f", licence {source[1]}" if source else ""
    accelerator.print(f"encoder auto: {encoder}{licence}, {why}")
    return dataclasses.replace(config, encoder=encoder, encoder_weights=weights)


def _of_earlier_run(config: TrainConfig) -> tuple[str, str, str] | None:
    """Encoder, weights and reason, where a run goes on."""
    earlier = earlier_settings(config)
    return (earlier["encoder"], earlier["encoder_weights"], "as this run began") if "encoder" in earlier else None


def _fitting(config: TrainConfig, *, gpu: bool) -> tuple[str, str, str]:
    """The same for a new run."""
    weights, wanted = config.encoder_weights, LARGE if gpu else SMALL
    place = "for there is a GPU" if gpu else "for training is on a CPU"
    if weights == "none":
        return SMALL, weights, "for a ViT learns too little without pretrained weights"
    if weights != "timm" or _at_hand(wanted):
        return wanted, weights, f"{place}; {OTHER[wanted]}"
    if wanted != SMALL and _at_hand(SMALL):
        return SMALL, weights, f"for the weights of {wanted} cannot be had from the Hub; {OTHER[SMALL]}"
    return SMALL, "none", (
        "with RANDOM weights, for the Hub cannot be reached: it will score far lower; give --encoder NAME "
        "--encoder_weights FILE, or connect to the Hub"
    )  # fmt: skip


def _at_hand(encoder: str) -> bool:
    """Whether the encoder's pretrained weights are in the cache, or on a Hub that answers."""
    source = weights_source(encoder)
    assert source is not None
    if isinstance(try_to_load_from_cache(source[0], WEIGHTS_FILE), str):
        return True
    try:
        HfApi().model_info(source[0], timeout=SECONDS)
    except Exception:  # the client raises errors of many families
        return False
    return True
