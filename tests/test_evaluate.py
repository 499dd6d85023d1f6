import torch

from prevmatch.evaluate import class_iou, class_scores, evaluate, sliding_window
from prevmatch.metrics import iou


def channels_as_logits(images):
    return images[:, :2]


def test_window_larger_than_image_equals_one_softmax():
    image = torch.randn(1, 3, 5, 6)
    scores = sliding_window(channels_as_logits, image, 9)
    torch.testing.assert_close(scores[..., :4, :4], channels_as_logits(image).softmax(1)[..., :4, :4])


def test_every_pixel_is_covered_and_overlaps_add_up():
    scores = sliding_window(channels_as_logits, torch.randn(1, 3, 10, 13), 6)
    total = scores.sum(1)[0]
    steps = torch.tensor([len([t for t in range(0, 10, 4) if t <= y < t + 6]) for y in range(10)])
    across = torch.tensor([len([t for t in range(0, 13, 4) if t <= x < t + 6]) for x in range(13)])
    torch.testing.assert_close(total, (steps[:, None] * across[None]).float())


def test_windows_that_stay_inside_are_whole_and_cover_every_pixel():
    def watched(images):
        assert images.shape[-2:] == (6, 6)
        return images[:, :2]

    scores = sliding_window(watched, torch.randn(1, 3, 10, 14), 6, inside=True)
    down, across = ([sum(t <= x < t + 6 for t in starts) for x in range(side)]
                    for side, starts in ((10, (0, 4)), (14, (0, 4, 8))))  # fmt: skip
    torch.testing.assert_close(scores.sum(1)[0], torch.tensor(down).outer(torch.tensor(across)).float())
    # At Cityscapes' size: rows 0 and 226, columns 0, 532, 1064 and 1250.
    corners = torch.zeros(1, 3, 1024, 2048)
    total = sliding_window(lambda part: part[:, :2], corners, 798, inside=True).sum(1)[0]
    assert total[0].int().tolist() == [sum(t <= x < t + 798 for t in (0, 532, 1064, 1250)) for x in range(2048)]
    assert total[:, 0].int().tolist() == [sum(t <= y < t + 798 for t in (0, 226)) for y in range(1024)]
    small = sliding_window(channels_as_logits, torch.randn(1, 3, 4, 5), 6, inside=True).sum(1)
    torch.testing.assert_close(small, torch.ones(1, 4, 5))


def test_windows_answered_together_give_the_same_scores():
    torch.manual_seed(0)
    network, seen = torch.nn.Conv2d(3, 4, 3, padding=1), []

    def watched(images):
        seen.append(len(images))
        return network(images)

    images = torch.randn(2, 3, 11, 17)
    alone, together = (sliding_window(watched, images, 6, batch_size=n) for n in (1, 4))
    torch.testing.assert_close(alone, together)
    assert seen == [2] * 15 + [8, 4, 4, 4, 6, 2, 2]


def test_window_of_one_pixel_works():
    image = torch.randn(1, 3, 3, 2)
    windowed, whole = (class_scores(channels_as_logits, image, window).argmax(dim=1) for window in (1, None))
    assert torch.equal(windowed, whole)


OPTIONS = {"num_classes": 2, "normalize": torch.Tensor.float, "window": None, "device": torch.device("cpu")}


def make_samples():
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(0, 255, (3, 4, 5 + i), dtype=torch.uint8, generator=generator),
            torch.randint(0, 2, (4, 5 + i), generator=generator).byte(),
        )
        for i in range(5)
    ]


def test_evaluation_adds_up_over_shares_of_the_images():
    samples = make_samples()
    whole = evaluate(channels_as_logits, samples, **OPTIONS)
    parts = [evaluate(channels_as_logits, samples[rank::2], **OPTIONS) for rank in range(2)]
    assert torch.equal(whole, parts[0] + parts[1])
    assert whole.sum() == sum(mask.numel() for _, mask in samples)
    assert 0 <= iou(whole).mean() <= 100


def test_scores_of_the_classes_are_those_of_all_processes_together():
    samples, kept = make_samples(), []
    other = evaluate(channels_as_logits, samples[1::2], **OPTIONS)
    found = class_iou(channels_as_logits, samples[::2], reduce=other.add, show=False, keep=kept.append, **OPTIONS)
    assert torch.equal(found, iou(evaluate(channels_as_logits, samples, **OPTIONS)))
    assert [tuple(ids.shape) for ids in kept] == [(4, 5), (4, 7), (4, 9)]


def test_evaluation_can_be_ended_early():
    samples, kept, asked = make_samples(), [], []

    def go_on(sample):
        asked.append(sample)
        return len(asked) < 3

    class_iou(channels_as_logits, samples, reduce=torch.clone, show=False, go_on=go_on, keep=kept.append, **OPTIONS)
    assert (len(asked), len(kept)) == (3, 2)
