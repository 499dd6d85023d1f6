"""How long training takes here: a few passes of the network measured before it begins."""

import dataclasses
import time
from dataclasses import fields

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from prevmatch.config import DecoderConfig, SegmenterConfig, TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.methods import method_of
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.fitting import fit
from prevmatch.run.launch import earlier_settings, has_gpu

NO_GRADIENT = 0.35
"""What an answer costs that nothing is learned from, of one that something is."""

SHARE_OF_STEPS = 0.8
"""Of the time asked for; loading, validation and records take the rest."""


def size_to_hours(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> TrainConfig:
    """Give a schedule that was asked for in hours its steps, and say so; a run that goes on keeps its own."""
    if config.hours is None:
        return config
    answer = [earlier_settings(config).get("steps", 0)]
    if accelerator.is_main_process and not answer[0]:
        fitted = fit(config, data, accelerator.num_processes, gpu=has_gpu(accelerator))
        seconds = seconds_per_step(fitted, data.source.num_classes, accelerator.device)
        answer = [max(1, int(SHARE_OF_STEPS * 3600 * config.hours / seconds))]
        accelerator.print(
            f"hours {config.hours:g}: {answer[0]} steps of about {seconds:.2g} s, measured before training"
        )
    return dataclasses.replace(config, steps=broadcast_object_list(answer)[0])


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
