import json

import torch

from prevmatch.run.checkpoint import divide, join
from prevmatch.run.swap import Packed, pack


def through_json(state):
    tensors = {}
    return join(json.loads(json.dumps(divide(state, tensors))), tensors), tensors


def test_a_state_of_tensors_and_plain_values_comes_back_as_it_was():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    state = {
        "state": {0: {"momentum_buffer": weight, "step": torch.tensor(3.0)}, 7: {}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 7], "foreach": None, "nesterov": False}],
        "generator": {"state": {"state": 2**127 + 5}, "bit_generator": "PCG64"},
        "tensor": ["tensor", "x"],
    }
    found, tensors = through_json(state)
    assert found["param_groups"] == state["param_groups"]
    assert found["generator"] == state["generator"]
    assert found["tensor"] == state["tensor"]
    assert list(found["state"]) == [0, 7]
    buffer = found["state"][0]["momentum_buffer"]
    assert torch.equal(buffer, weight)
    assert buffer.is_contiguous(memory_format=torch.channels_last)
    assert sorted(tensors) == ["state.0.momentum_buffer", "state.0.step"]


def test_what_changes_is_copied_and_a_packed_version_is_not():
    changing, version = torch.zeros(3), pack({"weight": torch.zeros(3)})
    tensors = {}
    divide({"changing": changing, "models": [version]}, tensors)
    changing.fill_(1)
    assert isinstance(version, Packed)
    assert tensors["changing"].tolist() == [0, 0, 0]
    assert tensors["models.0.weight"] is version["weight"]
