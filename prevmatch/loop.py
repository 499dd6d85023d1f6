"""The training loop: one for every method, device and number of processes."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from prevmatch.config import OptimiserConfig, TrainConfig
from prevmatch.data.from_settings import load_training_data
from prevmatch.data.loader import (
    TripleDataset,
    TripleSampler,
    evaluation_loader,
    images_of,
    loader_deaths_named,
    training_loader,
    validation_images,
)
from prevmatch.data.sources import Source, TrainingData
from prevmatch.data.survey import class_pixels
from prevmatch.evaluate import class_iou
from prevmatch.losses import cross_entropy, inverse_log_weights, ohem_cross_entropy
from prevmatch.methods import Method, SupervisedLoss, method_of, step
from prevmatch.models.encoder import patch_size
from prevmatch.run.faults import Outcome, Watch, check_weights, gradient_norm
from prevmatch.run.fitting import require_unlabelled
from prevmatch.run.here import fit_here
from prevmatch.run.launch import start_accelerator
from prevmatch.run.logbook import Logbook
from prevmatch.run.memory import smaller_batches_if_needed
from prevmatch.run.results import TrainResult, open_output_dir, report
from prevmatch.run.resume import Keeper
from prevmatch.run.state import TrainState
from prevmatch.run.stopping import StopRequest
from prevmatch.run.validation import is_kept, keep_validation
from prevmatch.schedule import learning_rate
from prevmatch.share.closing import close
from prevmatch.share.hub import check_can_push
from prevmatch.share.panels import draw_panel
from prevmatch.students import Student, build_students
from prevmatch.views import Views, build_views


@smaller_batches_if_needed
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
    config = fit_here(config, data, accelerator)
    method = method_of(config)
    require_unlabelled(method, data)
    students = build_students(config, method, data, accelerator)
    supervised_loss = supervised_loss_of(config, class_weight_of(config, data, accelerator.device))
    loader, sampler, val_loader = build_loaders(config, data, method, accelerator)
    batches = config.epochs * len(loader)  # now: it gets shorter by what a resumed run skips
    total = config.epochs * math.ceil(len(loader) / config.gradient_accumulation_steps)
    watch = Watch([student.network for student in students], accelerator, active=config.nonfinite == "skip")
    set_seed(config.seed, device_specific=True)  # equal weights everywhere so far; from here on other dropout

    with (
        open_output_dir(config, data, accelerator),
        Logbook(accelerator, config, batches=batches, names=names_of(loader, sampler)) as logbook,
        Keeper(config, data, accelerator, students, logbook) as keeper,
        StopRequest(accelerator, config.max_hours) as stop,
    ):
        state = keeper.resume(len(loader))
        while state.epoch < config.epochs:
            logbook.show(epoch=state.epoch + 1, **begin_epoch(students, state))
            sampler.skip(state.batch * config.batch_size * accelerator.num_processes)
            loader.set_epoch(state.epoch)
            state.start_clock()
            for batch in loader:
                lr = learning_rate(state.step, total, config)
                with accelerator.accumulate(*(student.prepared for student in students)):
                    watch.begin()
                    now = method.at(state.epoch)
                    views = views_of(batch, now, students[0], config)
                    said = step(students, views, method=now, supervised_loss=supervised_loss)
                    accelerator.backward(said.losses["loss"])
                    outcome = update(students, said.losses, lr, watch, accelerator)
                logbook.batch(state, lr, said.losses, batch["keys"], outcome)
                state.batch_done()
                if accelerator.sync_gradients:
                    state.step += 1
                    follow(students, said.labelled, views.mask, outcome)
                    keeper.save_if_due(state)
                    if stop.after(state.step):
                        break
            keeper.end_if(stop.agreed(), stop.reason, state)
            logbook.flush()
            settle(students, state.step, accelerator)
            due = (state.epoch + 1) % config.eval_every == 0 or state.epoch + 1 == config.epochs
            scored = score(students[0], val_loader, data.source, config, accelerator, stop) if due else (None, [])
            keeper.end_if(stop.agreed(), stop.reason, state)
            state.record(scored[0], newest=config.folds > 0)
            if due:
                keep_validation(scored[1], state, data.source, accelerator, config.output_dir)
                keeper.save_best(state)
                logbook.epoch(state, facts_of(students, state.epoch - 1))
                keeper.save(state)
            draw_panel(state, students[0], data=data, config=config, accelerator=accelerator)
        result = report(state, config, data, accelerator, iterations=batches)
    return close(result, config, accelerator)


def build_loaders(
    config: TrainConfig, data: TrainingData, method: Method, accelerator: Accelerator
) -> tuple[DataLoaderShard, TripleSampler, DataLoader]:
    """The training loader, divided among the processes, the sampler behind it, and this process's validation share."""
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
        partners=method.partner == "independent",
        num_workers=config.num_workers,
        epoch_images=config.epoch_images,
    )
    validation = evaluation_loader(
        data.source, image_size=config.image_size, rank=rank, processes=processes, num_workers=config.num_workers
    )
    return accelerator.prepare(training), cast(TripleSampler, training.sampler), validation


def names_of(loader: DataLoader, sampler: TripleSampler) -> partial[str]:
    """A function from a sample's key to the ids of its images."""
    return partial(images_of, cast(TripleDataset, loader.dataset), sampler)


def class_weight_of(config: OptimiserConfig, data: TrainingData, device: torch.device) -> Tensor | None:
    """What each class weighs in the loss of the labelled images, float32 (C,); None where all weigh alike."""
    if config.class_weights == "equal":
        return None
    return inverse_log_weights(torch.from_numpy(class_pixels(data.labelled, data.source))).to(device)


def supervised_loss_of(config: OptimiserConfig, class_weight: Tensor | None = None) -> SupervisedLoss:
    """The loss of the labelled images: (logits, target) → scalar."""
    if config.supervised_loss == "ohem":
        return partial(
            ohem_cross_entropy,
            threshold=config.ohem_threshold,
            min_kept=config.ohem_min_kept,
            class_weight=class_weight,
        )
    return partial(cross_entropy, class_weight=class_weight)


def views_of(batch: dict, method: Method, student: Student, config: TrainConfig) -> Views:
    """What the step sees of a batch."""
    return build_views(
        batch, method.strong_views, seed=config.seed, normalize=student.network.normalize, partner=method.partner,
        draw=method.draw, box=method.box,
    )  # fmt: skip


def begin_epoch(students: Sequence[Student], state: TrainState) -> dict:
    """Let the guides begin the epoch at which the run stands; returns what they have to say for the progress bar."""
    for student in students:
        for guide in student.guides:
            guide.begin(state)
    return {name: value for name, value in facts_of(students, state.epoch).items() if isinstance(value, int)}


def facts_of(students: Sequence[Student], epoch: int) -> dict:
    """What the first student's guides have to say in the records of an epoch."""
    return {name: value for guide in students[0].guides for name, value in guide.facts(epoch).items()}


def update(
    students: Sequence[Student], losses: dict[str, Tensor], lr: float, watch: Watch, accelerator: Accelerator
) -> Outcome:
    """Take the optimisers' step, or leave it out: as a fault that `watch` noticed, or because fp16's gradient scaler
    looks for its scale, which is no fault."""
    outcome: Outcome = "taken"
    if accelerator.scaler is None:
        losses["grad_norm"] = gradient_norm([student.network for student in students])
        outcome = watch.look(losses)
    take = not accelerator.sync_gradients or watch.end()
    for student in students:
        student.set_lr(lr)
        if take:
            student.optimizer.step()
        student.optimizer.zero_grad()
    return "overflow" if outcome == "taken" and accelerator.optimizer_step_was_skipped else outcome


def follow(students: Sequence[Student], labelled: Sequence[Tensor], mask: Tensor, outcome: Outcome) -> None:
    """After a step that was taken, let whatever follows the students do so."""
    if outcome == "taken":
        for student, logits in zip(students, labelled, strict=True):
            student.follow(logits, mask)


def settle(students: Sequence[Student], steps: int, accelerator: Accelerator) -> None:
    """After an epoch: refuse to go on with weights that an update destroyed; then give every process the first one's
    BatchNorm statistics, so that all score and bank the same networks."""
    networks = [network for student in students for network in student.networks.values()]
    check_weights(networks, steps, accelerator)
    if accelerator.num_processes > 1:
        for buffer in (buffer for network in networks for buffer in network.buffers()):
            torch.distributed.broadcast(buffer, src=0)


def score(
    student: Student,
    loader: DataLoader,
    source: Source,
    config: TrainConfig,
    accelerator: Accelerator,
    stop: StopRequest,
) -> tuple[list[float | None], list[Tensor]]:
    """Per-class IoU in % of what is scored of a student, over the validation images, exact for any number of
    processes, None for a class that does not occur and does not count; and the confusion matrices (C, C) of this
    process's images. Nothing where there are no images.

    It means nothing where `stop` ended it early.
    """
    each: list[Tensor] = []
    if not (images := validation_images(loader)):
        return [], each
    scores = class_iou(
        student.exact.of(student.scored),
        loader,
        num_classes=student.network.config.num_classes,
        normalize=student.network.normalize,
        window=config.eval_window,
        inside=patch_size(config.encoder) > 1,
        device=accelerator.device,
        reduce=partial(accelerator.reduce, reduction="sum"),
        absent=source.absent_score,
        show=accelerator.is_main_process,
        go_on=stop.unasked,
        each=each.append if is_kept(images, student.network.config.num_classes) else None,
    )
    return [None if math.isnan(value) else value for value in scores.tolist()], each
