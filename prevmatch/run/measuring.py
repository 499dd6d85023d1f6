"""How long training takes here: a few passes of the network measured before it begins."""

import time
from dataclasses import fields

import torch

from prevmatch.config import DecoderConfig, SegmenterConfig, TrainConfig
from prevmatch.methods import method_of
from prevmatch.models.segmenter import Segmenter

NO_GRADIENT = 0.35
"""What an answer costs that nothing is learned from, of one that something is."""


def seconds_per_step(config: TrainConfig, num_classes: int, device: torch.device) -> float:
    """Seconds of an optimiser step with fitted settings, from passes over batches of noise; loading comes on top."""
    decoder = {field.name: getattr(config, field.name) for field in fields(DecoderConfig)}
    architecture = SegmenterConfig(encoder=config.encoder, num_classes=num_classes, **decoder)
    network = Segmenter(architecture, encoder_weights="none").to(device).train()
    if config.freeze_encoder:
        network.freeze_encoder()
    batch = torch.randn(config.batch_size, 3, config.crop_size, config.crop_size, device=device)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        network(batch).square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    method = method_of(config)
    passes = sum(len(forward.views) for forward in method.forwards) + NO_GRADIENT * len(method.guides)
    return min(seconds) * max(1.0, passes) * config.gradient_accumulation_steps
