import pytest
import torch
from conftest import divide

from prevmatch.data.loader import TripleSampler, at_most_the_cores, evaluation_loader, images_of, training_loader
from prevmatch.errors import DataError


def loader_of(data, **changes):
    options = {
        "batch_size": 2,
        "processes": 1,
        "image_size": None,
        "crop_size": 33,
        "scale_range": (0.5, 2.0),
        "seed": 0,
        "unlabelled": True,
        "num_workers": 0,
    }
    return training_loader(data, **options | changes)


def test_an_epoch_passes_the_unlabelled_images_once_and_repeats_the_labelled_ones():
    triples = list(TripleSampler(3, 10, seed=0))
    assert sorted(t.unlabelled for t in triples) == list(range(10))
    assert sorted(t.partner for t in triples) == list(range(10))
    counts = [[t.labelled for t in triples].count(i) for i in range(3)]
    assert sorted(counts) == [3, 3, 4]


def test_without_unlabelled_images_an_epoch_passes_the_labelled_ones_once():
    sampler = TripleSampler(7, 0, seed=0)
    assert len(sampler) == 7
    assert sorted(t.labelled for t in sampler) == list(range(7))
    assert len(TripleSampler(7, 0, seed=0, length=20)) == 20


def test_partner_is_drawn_independently_of_the_image():
    triples = list(TripleSampler(5, 400, seed=0))
    assert sum(t.unlabelled == t.partner for t in triples) < 10


def test_order_follows_from_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = TripleSampler(3, 12, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert [t[2:] for t in order(0, 0)] != [t[2:] for t in order(0, 1)]
    assert [t[2:] for t in order(0, 0)] != [t[2:] for t in order(1, 0)]


def test_batches_are_uint8_with_maps(tiny_data):
    batch = next(iter(loader_of(tiny_data)))
    for name in ("labelled", "weak", "partner"):
        assert batch[name].shape == (2, 3, 33, 33)
        assert batch[name].dtype == torch.uint8
    assert batch["mask"].dtype == torch.uint8
    assert batch["valid"].dtype == batch["partner_valid"].dtype == torch.bool
    assert batch["keys"] == [(0, 0), (0, 1)]


def test_partners_are_read_only_if_they_are_wanted(tiny_data):
    with_partners, without = (next(iter(loader_of(tiny_data, partners=p))) for p in (True, False))
    assert with_partners.keys() - without.keys() == {"partner", "partner_valid"}
    assert torch.equal(with_partners["weak"], without["weak"])


def test_a_sample_names_the_images_that_it_read(tiny_data):
    loader = loader_of(tiny_data, partners=False)
    name = images_of(loader.dataset, loader.sampler, (0, 0))
    triple = loader.sampler.order(0)[0]
    ids = tiny_data.unlabelled["id"]
    assert name == f"{tiny_data.labelled['id'][triple.labelled]}, {ids[triple.unlabelled]}"
    full = loader_of(tiny_data)
    assert images_of(full.dataset, full.sampler, (0, 0)) == f"{name}, {ids[triple.partner]}"


def test_labelled_images_alone_are_loaded_and_named(tiny_source):
    data = divide(tiny_source, "1_1")
    loader = loader_of(data, unlabelled=False)
    keys = [key for batch in loader for key in batch["keys"]]
    names = [images_of(loader.dataset, loader.sampler, key) for key in keys]
    assert sorted(names) == tiny_source.train["id"]
    with pytest.raises(DataError, match="an epoch has 8 labelled images but a step takes 9; lower batch_size"):
        loader_of(data, unlabelled=False, batch_size=9)


def test_number_of_workers_does_not_change_a_batch(tiny_data):
    alone = list(loader_of(tiny_data))
    together = list(loader_of(tiny_data, num_workers=2))
    assert len(alone) == len(together) == 3
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a if k != "keys")


def test_without_unlabelled_images_labelled_crops_stay_the_same(tiny_data):
    both, bare = next(iter(loader_of(tiny_data))), next(iter(loader_of(tiny_data, unlabelled=False)))
    assert "weak" not in bare
    assert torch.equal(both["labelled"], bare["labelled"])


def test_fewer_images_than_a_batch_is_an_error(tiny_data):
    with pytest.raises(DataError, match="6 unlabelled images but a step takes 8; lower batch_size"):
        loader_of(tiny_data, batch_size=8)


def test_processes_share_the_validation_images_without_overlap(tiny_source):
    shares = [
        list(evaluation_loader(tiny_source, image_size=None, rank=r, processes=2, num_workers=0)) for r in range(2)
    ]
    assert [len(share) for share in shares] == [2, 1]
    assert shares[0][0][0].shape == (3, 80, 80)


def test_images_can_be_read_at_another_size(tiny_source):
    image, mask = next(iter(evaluation_loader(tiny_source, image_size=40, rank=0, processes=1, num_workers=0)))
    assert image.shape == (3, 40, 40)
    assert mask.shape == (40, 40)


def test_workers_outlive_a_signal_to_the_group_but_not_the_end_of_the_loader(tiny_data):
    import os
    import signal

    loader = training_loader(
        tiny_data, batch_size=2, processes=1, image_size=None, crop_size=33, scale_range=(0.5, 2.0), seed=0,
        unlabelled=True, num_workers=2,
    )  # fmt: skip
    batches = iter(loader)
    next(batches)
    workers = [worker.pid for worker in batches._workers]
    killer = os.fork()  # a stranger, as a scheduler is
    if killer == 0:
        for pid in workers:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                os.kill(pid, number)
        os._exit(0)
    os.waitpid(killer, 0)
    assert len(list(batches)) == 2
    processes = batches._workers
    for worker in processes:
        worker.terminate()  # by the parent, as multiprocessing does at the end
        worker.join(timeout=60)
        assert worker.exitcode == 0


def test_there_are_no_more_loader_processes_than_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert [at_most_the_cores(asked) for asked in (0, 1, 4)] == [0, 1, 2]
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert at_most_the_cores(4) == 1
