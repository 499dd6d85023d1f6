import contextlib

import pytest
import torch

from prevmatch.run.swap import Swap, pack


def tensors():
    torch.manual_seed(0)
    return {
        "weight": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last),
        "half": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0),
        "slice": torch.randn(4, 6)[:, ::2],
    }


def test_packed_tensors_are_equal_in_value_and_layout_and_lie_in_one_piece():
    packed, origin = pack(tensors()), tensors()
    assert packed.keys() == origin.keys()
    for name, tensor in origin.items():
        assert torch.equal(packed[name], tensor)
        assert packed[name].dtype == tensor.dtype
    assert packed["weight"].is_contiguous(memory_format=torch.channels_last)
    copy = pack(tensors(), copy=False)
    copy.flat.copy_(packed.flat)
    assert all(torch.equal(copy[name], tensor) for name, tensor in origin.items())


def test_packed_tensors_do_not_follow_their_origin():
    origin = tensors()
    packed = pack(origin)
    origin["weight"].zero_()
    assert packed["weight"].any()


def test_on_the_cpu_nothing_is_copied():
    swap, version = Swap(torch.device("cpu")), pack(tensors())
    assert swap.fetch(version) is version
    assert not swap.copies


class Streams:
    """Stands for CUDA: carries out what is queued as late as the waits allow, so that a missing wait shows."""

    def __init__(self):
        self.queue, self.done = {"main": [], "side": []}, {"main": 0, "side": 0}
        self.current = "main"

    def put(self, action):
        self.queue[self.current].append(action)

    def wait(self, waiting, awaited):
        """Before going on, `waiting` waits for all that is queued on `awaited`."""
        target = len(self.queue[awaited])
        self.queue[waiting].append(lambda: self.run(awaited, target))

    def run(self, name, until):
        while self.done[name] < until:
            self.done[name] += 1
            self.queue[name][self.done[name] - 1]()


class Stream:
    def __init__(self, streams, name):
        self.streams, self.name = streams, name

    def wait_stream(self, other):
        self.streams.wait(self.name, other.name)


@pytest.mark.parametrize("first", ["main", "side"], ids=["main stream runs first", "copies run first"])
@pytest.mark.parametrize("ahead", [True, False])
def test_each_version_is_read_after_its_copy_and_before_the_next_one_takes_its_place(monkeypatch, first, ahead):
    streams = Streams()
    main, side = Stream(streams, "main"), Stream(streams, "side")

    @contextlib.contextmanager
    def on(stream):
        streams.current = stream.name
        yield
        streams.current = "main"

    monkeypatch.setattr("torch.cuda.Stream", lambda device: side)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: main)
    monkeypatch.setattr("torch.cuda.stream", on)
    swap = Swap(torch.device("cuda"))
    swap.device = torch.device("cpu")
    real = torch.Tensor.copy_

    def late_copy(target, source, non_blocking=False):
        if non_blocking:
            streams.put(lambda: real(target, source))
        else:
            real(target, source)

    versions = [pack({"weight": torch.full((4,), float(i))}) for i in range(9)]
    monkeypatch.setattr(torch.Tensor, "copy_", late_copy)
    seen = []
    for i, version in enumerate(versions):
        place = swap.fetch(version)
        if ahead and i + 1 < len(versions):
            swap.start(versions[i + 1])
        streams.put(lambda place=place: seen.append(place["weight"].unique().tolist()))
    assert len(swap.places) == 2
    assert len({place.flat.data_ptr() for place in swap.places}) == 2
    streams.run(first, len(streams.queue[first]))
    streams.run("main", len(streams.queue["main"]))
    assert seen == [[float(i)] for i in range(9)]


def test_a_version_that_was_started_in_vain_is_not_taken_for_another():
    swap = Swap(torch.device("cpu"))
    one, two = pack(tensors()), pack(tensors())
    swap.start(one)
    assert swap.fetch(two) is two
    assert swap.fetch(one) is one
