"""The table of finished runs side by side."""

from prevmatch.studies.compare import score_table


def result(method, labelled, unlabelled, best):
    config = {"method": method, "seed": 0, "previous_guidance": False}
    return {
        "config": config, "labelled": labelled, "unlabelled": unlabelled, "validation": 101, "best_miou": best,
        "best_epoch": 4, "final_miou": best, "seconds_per_iteration": 0.25,
    }  # fmt: skip


def test_each_run_says_how_many_images_it_learned_from():
    lines = score_table([result("prevmatch", 23, 344, 60), result("supervised", 367, 0, 65)]).splitlines()
    assert lines[0] == "mIoU in % on 101 validation images"
    assert lines[-2].startswith("| prevmatch  |       23 |        344 |    0 |     60.00 |        5 |")
    assert lines[-1].startswith("| supervised |      367 |          0 |    0 |     65.00 |        5 |")
