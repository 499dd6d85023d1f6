"""Students: the networks that train, each with its optimiser, its average if one is asked for, and its guides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from prevmatch.average import Average
from prevmatch.config import DecoderConfig, OptimiserConfig, SegmenterConfig, TrainConfig
from prevmatch.data.sources import TrainingData
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Guide, Versions
from prevmatch.guides.teacher import teacher
from prevmatch.guides.temporary import temporary
from prevmatch.guides.thresholds import ClassConfidence
from prevmatch.methods import Method
from prevmatch.models.encoder import encoder_statistics
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.convolutions import quicken
from prevmatch.run.fitting import steps_of


class Remembers(Protocol):
    """Anything that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """All of it: nested dicts and lists of tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take over what `state_dict` returned."""


@dataclass(kw_only=True)
class Student:
    """One network that trains."""

    network: Segmenter
    prepared: nn.Module
    """The network as Accelerate wraps it: it is called in training."""
    optimizer: AcceleratedOptimizer
    versions: Versions
    guides: list[Guide]
    exact: Frozen
    """The form in which it is scored: fp32."""
    scored: Segmenter
    """What is scored, and kept if it is the best: the network, or its average."""

    @property
    def networks(self) -> dict[str, Segmenter]:
        """The network and, where there is one, its average, by the names under which they are saved."""
        average = self.versions.average
        return {"model": self.network} | ({} if average is None else {"average": average.network})

    @property
    def memory(self) -> dict[str, Remembers]:
        """Everything else that it goes on from, by name."""
        optional = {"average_steps": self.versions.average, "class_confidence": self.versions.confidence}
        kept = {name: thing for name, thing in optional.items() if thing is not None}
        return {"optimizer": self.optimizer, **kept, **{guide.name: guide for guide in self.guides}}

    def set_lr(self, lr: float) -> None:
        """Set the learning rate by hand: a prepared scheduler would step once per process."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["multiplier"]

    def follow(self, logits: Tensor, mask: Tensor) -> None:
        """After an optimiser step that was taken: let average, statistics and guides follow.

        logits (B, C, h, w): what the student said of the labelled images; mask (B, H, W): what is true of them.
        """
        followers = (self.versions.average, self.versions.confidence, *self.guides)
        for follower in followers:
            if follower is not None:
                follower.follow(logits, mask)


def build_students(config: TrainConfig, method: Method, data: TrainingData, accelerator: Accelerator) -> list[Student]:
    """As many new students as the method has, each with its encoder; raises ConfigError where several cannot train."""
    if method.students > 1 and accelerator.scaler is not None:
        raise ConfigError(f"method {config.method} has several optimisers, which fp16 cannot serve; use bf16 or fp32")
    together: list[Versions] = []
    others = [config] * (method.students - 1)
    if config.co_encoders:
        usual = "none" if config.encoder_weights == "none" else "timm"
        weights = config.co_encoder_weights or (usual,) * len(config.co_encoders)
        others = [
            replace(config, encoder=name, encoder_weights=own)
            for name, own in zip(config.co_encoders, weights, strict=True)
        ]
    return [build_student(each, method, data, accelerator, together) for each in (config, *others)]


def build_student(
    config: TrainConfig,
    method: Method,
    data: TrainingData,
    accelerator: Accelerator,
    together: list[Versions] | None = None,
) -> Student:
    """A new student on the device, with everything that the settings ask for around it; `together` are those before
    it, which it joins."""
    together = [] if together is None else together
    network = build_network(config, data, accelerator)
    score_average = (config.score or method.score) == "ema"
    asked = score_average or not {teacher, temporary}.isdisjoint(method.guides)
    frozen = build_frozen(network, config, accelerator)
    if together:
        for module in (network, frozen.skeleton):
            restate(module, together[0].network, network)
    device = accelerator.device
    network.to(device)
    idle = method.ema_idle_epochs * steps_of(config, data, accelerator.num_processes) // max(1, config.epochs)
    average = (
        Average(network, method.ema_decay, idle=idle) if asked else None
    )  # before Accelerate wraps the network's forward
    classwise = config.threshold_kind == "classwise"
    confidence = ClassConfidence(network.config.num_classes, config.class_confidence_momentum, device)
    versions = Versions(len(together), network, frozen, average, confidence if classwise else None, together)
    together.append(versions)
    prepared, optimizer = accelerator.prepare(network, build_optimizer(config, network))
    with accelerator.local_main_process_first():  # a guide from outside may have to be downloaded
        guides = [build(config, versions) for build in method.guides]
    return Student(
        network=network,
        prepared=prepared,
        optimizer=optimizer,
        versions=versions,
        guides=guides,
        exact=frozen if frozen.dtype == torch.float32 else Frozen(network, side=config.crop_size),
        scored=average.network if average is not None and score_average else network,
    )


def restate(module: nn.Module, first: Segmenter, own: Segmenter) -> None:
    """Let a student's network, in whatever form, take images that are normalised for the first student.

    Only here: as a model it has its own encoder's statistics, like any other.
    """

    def by_its_own_statistics(_: nn.Module, given: tuple) -> tuple:
        images, *rest = given
        return (images * first.pixel_std + first.pixel_mean - own.pixel_mean) / own.pixel_std, *rest

    if (first.config.mean, first.config.std) != (own.config.mean, own.config.std):
        module.register_forward_pre_hook(by_its_own_statistics)


def named(students: Sequence[Student], kind: str) -> Iterator[tuple[str, Any]]:
    """The students' `networks` or `memory` by name; those of a second student end with `_2`."""
    for number, student in enumerate(students, start=1):
        for name, thing in getattr(student, kind).items():
            yield name if number == 1 else f"{name}_{number}", thing


def build_network(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> Segmenter:
    """The network to train; with synchronised BatchNorm where several GPUs share a batch."""
    mean, std = encoder_statistics(config.encoder)
    architecture = SegmenterConfig(
        encoder=config.encoder, num_classes=data.source.num_classes, mean=mean, std=std,
        class_names=data.source.class_names, palette=data.source.palette, eval_window=config.eval_window,
        image_size=config.image_size, image_bits=data.source.bits,
        **{field.name: getattr(config, field.name) for field in fields(DecoderConfig)},
    )  # fmt: skip
    with accelerator.local_main_process_first():  # one download per machine
        network = Segmenter(architecture, encoder_weights=config.encoder_weights)
    if config.freeze_encoder:
        network.freeze_encoder()
    elif config.gradient_checkpointing:
        network.checkpoint_encoder()
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":  # it raises on the CPU
        network = convert_sync_batchnorm(network)  # timm's: torch's own drops activations inside timm's BatchNorms
    if accelerator.device.type == "cpu":
        quicken(network)
    # channels_last: a third less time per step than NCHW with MobileNetV2 on a CPU
    return network.train().to(memory_format=torch.channels_last)


def build_optimizer(config: OptimiserConfig, network: Segmenter) -> torch.optim.Optimizer:
    """SGD or AdamW, with one learning rate for the encoder, unless it is frozen, and one for the decoder."""
    groups = [{"params": network.decoder.parameters(), "multiplier": config.decoder_lr_multiplier}]
    if network.encoder_trains:
        groups.insert(0, {"params": network.encoder.parameters(), "multiplier": 1.0})
    assert config.weight_decay is not None  # fitted by now
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def build_frozen(network: Segmenter, config: TrainConfig, accelerator: Accelerator) -> Frozen:
    """The form in which the network and its versions are guides, in the precision that the settings name."""
    dtypes = {"no": torch.float32, "fp16": torch.float16}
    dtype = dtypes.get(accelerator.mixed_precision, torch.bfloat16)
    if config.guide_precision == "bf16":
        dtype = torch.bfloat16
    autocast = partial(torch.autocast, accelerator.device.type, dtype, enabled=dtype != torch.float32)
    return Frozen(network, dtype, side=config.crop_size, context=autocast)
