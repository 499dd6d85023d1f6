import numpy as np
import pytest
import torch

from prevmatch.mixing import Labels, StrongView, box_map, cutmix, draw_box, paste


def test_boxes_follow_the_published_distribution():
    rng = np.random.default_rng(0)
    size = 400
    boxes = [draw_box(rng, size, size) for _ in range(4000)]
    drawn = np.array([box for box in boxes if box is not None])
    assert len(drawn) / len(boxes) == pytest.approx(0.5, abs=0.03)
    top, left, bottom, right = drawn.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= size
    assert right.max() <= size
    # The share is drawn once and kept, whatever position is redrawn: uniform on [.02, .4].
    area = (bottom - top) * (right - left) / size**2
    np.testing.assert_allclose(
        np.quantile(area, [0.02, 0.25, 0.5, 0.75, 0.98]), [0.0276, 0.115, 0.21, 0.305, 0.392], atol=0.02
    )
    aspect = (bottom - top) / (right - left)
    assert aspect.min() > 0.28
    assert aspect.max() < 3.5


def test_box_map_marks_exactly_the_box():
    mask = box_map(torch.tensor([(1, 2, 3, 5), (0, 0, 0, 0)]), 4, 6)
    assert mask[0].nonzero().tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert not mask[1].any()


def test_one_index_serves_images_and_maps():
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 2, 2)
    box = torch.tensor([[[True, False], [False, False]], [[False, False], [False, True]]])
    donor = torch.tensor([2, 0])
    expected = torch.tensor([[[2.0, 0], [0, 0]], [[1.0, 1], [1, 0]]])
    assert torch.equal(paste(box, images[:, 0], donor), expected)
    assert torch.equal(paste(box, images, donor), expected.unsqueeze(1).expand(-1, 2, -1, -1))


def test_cutmix_pastes_what_every_guide_says_by_the_same_boxes():
    torch.manual_seed(0)
    view = StrongView(torch.rand(4, 3, 5, 5), torch.rand(2, 5, 5) < 0.5, torch.tensor([3, 1]))
    guides = [Labels(torch.randint(0, 9, (4, 5, 5)), torch.rand(4, 5, 5), torch.rand(4, 5, 5) < 0.5) for _ in range(2)]
    images, mixed = cutmix(view, guides, [])
    assert torch.equal(images, paste(view.box, view.pool, view.donor))
    for said, whole in zip(mixed, guides, strict=True):
        for part, pool in zip(said, whole, strict=True):
            for i, donor in enumerate((3, 1)):
                assert torch.equal(part[i][view.box[i]], pool[donor][view.box[i]])
                assert torch.equal(part[i][~view.box[i]], pool[i][~view.box[i]])
