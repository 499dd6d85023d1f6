"""Time one training step of each method side by side, on made-up images: views, forwards, backward, update.

    python benchmarks/step_time.py --encoder mobilenetv2_100 --crop_size 129 --batch_size 4 --decoder_channels 64

Methods take turns, so that a busy machine slows all of them alike; medians and quartiles over the rounds are printed.
Loading is not included; the bank is full, and each PrevMatch step draws 1..K of its members.
"""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import tyro

from prevmatch.bank import PreviousModels
from prevmatch.config import SegmenterConfig, TrainConfig
from prevmatch.guides import previous_models_as_guide, student_as_guide
from prevmatch.loop import build_optimizer
from prevmatch.losses import cross_entropy
from prevmatch.methods import METHODS, step
from prevmatch.models.frozen import build_skeleton, frozen_logits, tensors_of
from prevmatch.models.segmenter import Segmenter
from prevmatch.views import build_views


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to time."""

    encoder: str = "mobilenetv2_100"
    decoder_channels: int = 64
    crop_size: int = 129
    batch_size: int = 4
    num_classes: int = 11
    rounds: int = 15


def made_up_batch(settings: Settings, round_: int) -> dict:
    """A loader's batch of random pixels."""
    generator = torch.Generator().manual_seed(round_)
    b, s = settings.batch_size, settings.crop_size
    images = {
        name: torch.randint(0, 256, (b, 3, s, s), dtype=torch.uint8, generator=generator)
        for name in ("labelled", "weak", "partner")
    }
    maps = {name: torch.ones(b, s, s, dtype=torch.bool) for name in ("valid", "partner_valid")}
    mask = torch.randint(0, settings.num_classes, (b, s, s), generator=generator).byte()
    return {"keys": [(round_, i) for i in range(b)], "mask": mask, **images, **maps}


def main(settings: Settings) -> None:
    """Print the table."""
    architecture = SegmenterConfig(
        encoder=settings.encoder, num_classes=settings.num_classes, decoder_channels=settings.decoder_channels
    )
    network = Segmenter(architecture).train().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(TrainConfig(), network)
    forward = partial(frozen_logits, build_skeleton(architecture))
    bank = PreviousModels(8)
    for _ in range(8):
        bank.push(network)
    own = student_as_guide(forward, partial(tensors_of, network), threshold=0.95)
    previous = previous_models_as_guide(
        forward, bank, most=3, random_size=True, threshold=0.9, weighting="pixelwise", weight=0.5
    )
    guides = {"supervised": [], "fixmatch": [own], "unimatch": [own], "prevmatch": [own, previous]}

    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for round_ in range(settings.rounds + 1):
        batch = made_up_batch(settings, round_)
        for name, method in METHODS.items():
            started = time.perf_counter()
            views = build_views(batch, len(method.strong), seed=0, normalize=network.normalize)
            losses = step(network, views, method=method, guides=guides[name], supervised_loss=cross_entropy)
            losses["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    print(f"{settings}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, values in seconds.items():
        low, median, high = np.percentile(values, [25, 50, 75])
        print(f"{name:<11} median {median:.3f} s  (quartiles {low:.3f}, {high:.3f})")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
