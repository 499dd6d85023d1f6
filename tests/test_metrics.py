import pytest
import torch

from prevmatch.metrics import confusion_matrix, iou


def test_iou_agrees_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.classification", reason="torchmetrics is not installed")
    generator = torch.Generator().manual_seed(0)
    oracle = torchmetrics.MulticlassJaccardIndex(5, average="none", ignore_index=255)
    total = torch.zeros(5, 5, dtype=torch.int64)
    for size in ((7, 9), (11, 4), (1, 1)):
        pred = torch.randint(0, 5, size, generator=generator)
        target = torch.randint(0, 5, size, generator=generator)
        target[torch.rand(size, generator=generator) < 0.2] = 255
        oracle.update(pred[None], target[None])
        total += confusion_matrix(pred, target, 5)
    torch.testing.assert_close(iou(total).float(), 100 * oracle.compute())


def test_ignored_pixels_do_not_count_and_rows_are_true_classes():
    target = torch.tensor([[0, 0, 255, 1]], dtype=torch.uint8)
    pred = torch.tensor([[0, 1, 2, 1]])
    assert confusion_matrix(pred, target, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_class_that_never_occurs_counts_as_zero():
    assert iou(torch.tensor([[4, 0], [0, 0]])).tolist() == [100, 0]
