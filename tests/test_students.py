import dataclasses

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from prevmatch.data.sources import TrainingData
from prevmatch.methods import method_of
from prevmatch.students import build_network, build_student, named


class TwoGpus:
    """As much of an Accelerator as building a network asks for, with two processes on GPUs."""

    num_processes, device = 2, torch.device("cuda")

    def local_main_process_first(self):
        return Accelerator().local_main_process_first()


def test_several_gpus_get_synchronised_batch_norm_that_keeps_activations(tiny_config, tiny_data: TrainingData):
    """torch's own conversion drops the activations that timm's BatchNorms hold."""
    config = dataclasses.replace(tiny_config, encoder="mobilenetv2_100")
    network = build_network(config, tiny_data, TwoGpus())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    activations = [norm for norm in norms if isinstance(getattr(norm, "act", None), nn.ReLU6)]
    assert len(activations) > 20


@pytest.mark.parametrize(("settings", "kept", "scored"), [
    ({"method": "supervised"}, ["model"], "model"),
    ({"method": "mean_teacher"}, ["model", "average"], "model"),
    ({"method": "fixmatch", "ema_decay": 0.9}, ["model", "average"], "model"),
    ({"method": "supervised", "score": "ema"}, ["model", "average"], "average"),
    ({"method": "unimatch_v2"}, ["model", "average"], "average"),
    ({"method": "unimatch_v2", "score": "student"}, ["model", "average"], "model"),
])  # fmt: skip
def test_an_average_is_kept_where_somebody_asks_for_it(tiny_config, tiny_data, settings, kept, scored):
    config = dataclasses.replace(tiny_config, **settings)
    student = build_student(config, method_of(config), tiny_data, Accelerator())
    assert list(student.networks) == kept
    assert student.scored is student.networks[scored]


def test_names_of_a_second_student_do_not_collide(tiny_config, tiny_data):
    students = [build_student(tiny_config, method_of(tiny_config), tiny_data, Accelerator()) for _ in range(2)]
    assert [name for name, _ in named(students, "networks")] == ["model", "model_2"]
    memory = [name for name, _ in named(students, "memory")]
    assert memory == ["optimizer", "student", "previous", "optimizer_2", "student_2", "previous_2"]


def test_adamw_trains_the_encoder_at_the_lower_rate(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, optimizer="adamw", weight_decay=0.01, decoder_lr_multiplier=5)
    student = build_student(config, method_of(config), tiny_data, Accelerator())
    student.set_lr(0.1)
    assert isinstance(student.optimizer.optimizer, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"]) for g in student.optimizer.param_groups] == [(0.1, 0.01), (0.5, 0.01)]


def test_network_remembers_from_how_many_bits_its_images_are_stretched(tiny_config, tiny_data: TrainingData):
    deep = dataclasses.replace(tiny_data, source=dataclasses.replace(tiny_data.source, bits=14))
    assert build_network(tiny_config, deep, Accelerator()).config.image_bits == 14
    assert build_network(tiny_config, tiny_data, Accelerator()).config.image_bits is None
