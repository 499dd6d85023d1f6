"""The training loop: one for every method, device and number of processes."""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from prevmatch.bank import PreviousModels
from prevmatch.config import SegmenterConfig, TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.loader import (
    TripleDataset,
    TripleSampler,
    evaluation_loader,
    images_of,
    loader_deaths_named,
    training_loader,
)
from prevmatch.data.sources import TrainingData
from prevmatch.errors import TrainingError
from prevmatch.evaluate import Network, evaluate
from prevmatch.guides import Guide, previous_models_as_guide, student_as_guide
from prevmatch.losses import cross_entropy, ohem_cross_entropy
from prevmatch.methods import Method, SupervisedLoss, method_of, step
from prevmatch.metrics import iou as iou_of
from prevmatch.models.encoder import encoder_statistics
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.convolutions import quicken
from prevmatch.run.faults import Outcome, copy_buffers, gradient_norm, is_finite, put_back
from prevmatch.run.fitting import fit
from prevmatch.run.launch import start_accelerator
from prevmatch.run.logbook import Logbook
from prevmatch.run.results import TrainResult, open_output_dir, report
from prevmatch.run.resume import Keeper
from prevmatch.run.state import TrainState
from prevmatch.run.stopping import StopRequest
from prevmatch.run.swap import Swap
from prevmatch.schedule import poly, triangle
from prevmatch.share.closing import close
from prevmatch.share.hub import check_can_push
from prevmatch.share.panels import draw_panel
from prevmatch.views import build_views


@loader_deaths_named()
def train(config: TrainConfig, data: TrainingData | None = None) -> TrainResult:
    """Train as the settings say, on the data set they name or on `data`, and write everything to output_dir.

    Raises a PrevMatchError, with one line that names the remedy, where it cannot go on.
    """
    accelerator = start_accelerator(config)
    check_can_push(config)
    set_seed(config.seed)
    with accelerator.local_main_process_first():  # lists and tables are fetched and converted once per machine
        data = data or load_training_data(config)
    config = fit(config, data, accelerator.num_processes)
    method, swap = method_of(config), Swap(accelerator.device)
    student = build_student(config, data, accelerator)
    frozen = build_frozen(student, config, accelerator)
    exact = frozen if frozen.dtype == torch.float32 else Frozen(student, side=config.crop_size)  # scores are fp32's
    bank = PreviousModels(config.bank_capacity, seed=config.seed, prepare=frozen.tensors_of)
    supervised_loss = build_supervised_loss(config)
    panel = partial(draw_panel, data=data, method=method, frozen=frozen, config=config, accelerator=accelerator)
    loader, val_loader = build_loaders(config, data, method, accelerator)
    sampler = cast(TripleSampler, loader.sampler)
    network, optimizer, loader = accelerator.prepare(student, build_optimizer(config, student), loader)
    batches, names = len(loader), partial(images_of, cast(TripleDataset, loader.dataset), sampler)
    total_steps = config.epochs * math.ceil(batches / config.gradient_accumulation_steps)
    set_seed(config.seed, device_specific=True)  # equal weights everywhere so far; from here on other dropout

    with (
        open_output_dir(config, data, accelerator),
        Logbook(accelerator, config, batches=config.epochs * batches, names=names) as logbook,
        Keeper(config, data, accelerator, student, optimizer, bank, logbook) as keeper,
        StopRequest(accelerator, config.max_hours) as stop,
    ):
        state = keeper.resume(batches)
        for epoch in range(state.epoch, config.epochs):
            if state.batch == 0 and "previous" in method.guides and joins_bank(config, state):
                bank.push(student, epoch=epoch)
            guides = guides_of(config, method, epoch, student, bank, swap, frozen)
            logbook.show(epoch=epoch, bank=len(bank))
            sampler.skip(state.batch * config.batch_size * accelerator.num_processes)
            loader.set_epoch(epoch)
            started = time.perf_counter()
            for batch in loader:
                lr = poly(state.step, total_steps, config.lr)
                with accelerator.accumulate(network):
                    set_lr(optimizer, lr)
                    views = build_views(batch, len(method.strong), seed=config.seed, normalize=student.normalize)
                    before = copy_buffers(student) if config.nonfinite == "skip" else None
                    losses = step(network, views, method=method, guides=guides, supervised_loss=supervised_loss)
                    accelerator.backward(losses["loss"])
                    outcome = update(student, optimizer, losses, before, accelerator)
                logbook.batch(state, lr, losses, batch["keys"], outcome)
                started = state.batch_done(started)
                if accelerator.sync_gradients:
                    state.step += 1
                    keeper.save_if_due(state)
                    if stop.after(state.step):
                        break
            keeper.end_if(stop.agreed(), stop.reason, state)
            logbook.flush()
            settle(student, state.step, accelerator)
            due = (epoch + 1) % config.eval_every == 0 or epoch + 1 == config.epochs
            iou = score(exact.of(student), student, val_loader, config, accelerator, stop.unasked) if due else None
            keeper.end_if(stop.agreed(), stop.reason, state)
            state.record(epoch, iou)
            if due:
                keeper.save_best(state)
                logbook.epoch(state, bank_ages=bank.ages(epoch))
                keeper.save(state)
            panel(state, student, bank)
        result = report(state, config, data, accelerator, iterations=config.epochs * batches)
    return close(result, config, accelerator)


def build_student(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> Segmenter:
    """The network to train; with synchronised BatchNorm where several GPUs share a batch."""
    mean, std = encoder_statistics(config.encoder)
    architecture = SegmenterConfig(
        encoder=config.encoder, num_classes=data.source.num_classes, decoder_channels=config.decoder_channels,
        low_level_channels=config.low_level_channels, atrous_rates=config.atrous_rates, mean=mean, std=std,
        class_names=data.source.class_names, palette=data.source.palette, eval_window=config.eval_window,
        image_size=config.image_size,
    )  # fmt: skip
    with accelerator.local_main_process_first():  # one download per machine
        student = Segmenter(architecture, encoder_weights=config.encoder_weights)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":  # it raises on the CPU
        student = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    if accelerator.device.type == "cpu":
        quicken(student)
    # channels_last: a third less time per step than NCHW with MobileNetV2 on a CPU
    return student.train().to(memory_format=torch.channels_last)


def build_loaders(
    config: TrainConfig, data: TrainingData, method: Method, accelerator: Accelerator
) -> tuple[DataLoader, DataLoader]:
    """The training loader, which Accelerate divides among the processes, and this process's validation share."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    training = training_loader(
        data,
        batch_size=config.batch_size,
        processes=processes,
        image_size=config.image_size,
        crop_size=config.crop_size,
        scale_range=config.scale_range,
        seed=config.seed,
        unlabelled=method.uses_unlabelled,
        partners=config.partner == "independent",
        num_workers=config.num_workers,
        epoch_images=config.epoch_images,
    )
    validation = evaluation_loader(
        data.source, image_size=config.image_size, rank=rank, processes=processes, num_workers=config.num_workers
    )
    return training, validation


def build_optimizer(config: TrainConfig, student: Segmenter) -> torch.optim.Optimizer:
    """SGD with one learning rate for the encoder and one for the decoder."""
    groups = [
        {"params": student.encoder.parameters(), "multiplier": 1.0},
        {"params": student.decoder.parameters(), "multiplier": config.decoder_lr_multiplier},
    ]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate by hand: a prepared scheduler would step once per process."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["multiplier"]


def build_supervised_loss(config: TrainConfig) -> SupervisedLoss:
    """The loss of the labelled images: (logits, target) → scalar."""
    if config.supervised_loss == "ohem":
        return partial(ohem_cross_entropy, threshold=config.ohem_threshold, min_kept=config.ohem_min_kept)
    return cross_entropy


def joins_bank(config: TrainConfig, state: TrainState) -> bool:
    """Whether the network joins the bank before the epoch that now begins (method.md, section 2)."""
    if state.epoch < config.bank_start_epoch:
        return False
    if config.bank_policy == "best":
        return state.improved
    return state.epoch > 0 and state.epoch % config.bank_interval == 0


def guides_of(
    config: TrainConfig,
    method: Method,
    epoch: int,
    student: Segmenter,
    bank: PreviousModels,
    swap: Swap,
    frozen: Frozen,
) -> list[Guide]:
    """The guides of one epoch; previous models count by λ of the epoch, and not while it is 0 or the bank is empty."""
    guides = []
    if "student" in method.guides:
        own_tensors = partial(frozen.tensors_of, student)
        guides.append(student_as_guide(frozen.logits, own_tensors, threshold=config.confidence_threshold))
    weight = triangle(epoch, config.epochs)
    if "previous" in method.guides and len(bank) and weight > 0:
        guides.append(
            previous_models_as_guide(
                frozen.logits,
                bank,
                swap=swap,
                most=config.ensemble_size,
                random_size=config.random_ensemble_size,
                threshold=config.previous_threshold,
                weighting=config.previous_weighting,
                weight=weight,
            )
        )
    return guides


def score(
    network: Network,
    student: Segmenter,
    loader: DataLoader,
    config: TrainConfig,
    accelerator: Accelerator,
    go_on: Callable[[object], bool] = lambda sample: True,
) -> list[float]:
    """Per-class IoU in % of a network, some form of the student, over the validation images; exact for any number of
    processes.

    It means nothing where `go_on` ended it early.
    """
    samples, quiet = takewhile(go_on, loader), not accelerator.is_main_process
    confusion = evaluate(
        network,
        tqdm(samples, desc="evaluate", total=len(loader), leave=False, disable=quiet, dynamic_ncols=True),
        num_classes=student.config.num_classes,
        normalize=student.normalize,
        window=config.eval_window,
        device=accelerator.device,
    )
    return iou_of(accelerator.reduce(confusion, "sum").cpu()).tolist()


def update(
    student: Segmenter,
    optimizer: AcceleratedOptimizer,
    losses: dict[str, Tensor],
    buffers: list[Tensor] | None,
    accelerator: Accelerator,
) -> Outcome:
    """Take the optimiser's step, or leave it out.

    It is left out as a fault where loss or gradient are not finite and `buffers` are there to be put back. With fp16
    the gradient scaler leaves steps out while it looks for its scale, which is no fault.
    """
    if accelerator.scaler is None:
        losses["grad_norm"] = gradient_norm(student)
        if buffers is not None and not is_finite(losses, accelerator):
            put_back(student, buffers)
            optimizer.zero_grad()
            return "fault"
    optimizer.step()
    optimizer.zero_grad()
    return "overflow" if accelerator.optimizer_step_was_skipped else "taken"


def settle(student: nn.Module, steps: int, accelerator: Accelerator) -> None:
    """After an epoch: refuse to go on, and to save, with weights that an update destroyed; then give every process the
    first one's BatchNorm statistics, so that all score and bank the same network."""
    if not torch.stack([p.isfinite().all() for p in student.parameters()]).all():
        raise TrainingError(
            f"the weights are not finite after step {steps - 1}; the models saved before stay in place. Lower --lr"
        )
    if accelerator.num_processes > 1:
        for buffer in student.buffers():
            torch.distributed.broadcast(buffer, src=0)


def build_frozen(student: Segmenter, config: TrainConfig, accelerator: Accelerator) -> Frozen:
    """The form in which the student and its earlier versions are guides, in the precision that the settings name."""
    dtypes = {"no": torch.float32, "fp16": torch.float16}
    dtype = dtypes.get(accelerator.mixed_precision, torch.bfloat16)
    if config.guide_precision == "bf16":
        dtype = torch.bfloat16
    autocast = partial(torch.autocast, accelerator.device.type, dtype, enabled=dtype != torch.float32)
    return Frozen(student, dtype, side=config.crop_size, context=autocast)
