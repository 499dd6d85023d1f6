"""Whole runs on tiny scenes: what they write, what they refuse, and that methods share one loop."""

import dataclasses
import json
import shutil
from importlib.metadata import version

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import divide
from PIL import Image
from safetensors.torch import load_file

import prevmatch.loop
from prevmatch import Segmenter, train
from prevmatch.data.reading import read_mask
from prevmatch.data.sources import table
from prevmatch.errors import ConfigError, DataError, TrainingError
from prevmatch.evaluate import evaluate
from prevmatch.losses import inverse_log_weights
from prevmatch.run.state import TrainState


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "extra", "losses"),
    [
        ("supervised", {}, set()),
        ("fixmatch", {}, {"student/strong1"}),
        ("unimatch", {}, {"student/strong1", "student/strong2", "student/feature"}),
        ("prevmatch", {}, {"student/feature", "previous/strong1", "previous/strong2", "previous/feature"}),
        ("supervised", {"previous_guidance": True}, {"previous/strong1"}),
        ("prevmatch", {"partner": "reversed"}, {"student/strong1", "previous/strong1"}),
        ("unimatch", {"partner": "labelled"}, {"student/strong1", "student/feature"}),
        ("mean_teacher", {}, {"teacher/strong1"}),
        ("augseg", {"previous_guidance": True}, {"teacher/strong1", "previous/strong1"}),
        ("unimatch_v2", {"previous_guidance": True}, {"teacher/strong1", "teacher/strong2", "previous/strong2"}),
        ("prevmatch", {"ema_decay": 0.9, "score": "ema"}, {"teacher/feature", "previous/feature"}),
        ("prevmatch", {"previous_ensemble": "weights"}, {"student/feature", "previous/feature"}),
        ("fixmatch", {"threshold_kind": "classwise"}, {"student/strong1"}),
        ("supervised", {"optimizer": "adamw", "lr_schedule": "cosine", "warmup_steps": 2, "score": "ema"}, set()),
        *(
            pytest.param(*case, marks=pytest.mark.variation)
            for case in (
                ("fixmatch", {"previous_guidance": True}, {"student/strong1", "previous/strong1"}),
                ("mean_teacher", {"previous_guidance": True}, {"teacher/strong1", "previous/strong1"}),
                ("prevmatch", {"partner": "batch"}, {"student/strong1", "previous/strong1"}),
            )
        ),
    ],
)
def test_every_method_trains_in_the_one_loop(tiny_config, tiny_data, method, extra, losses):
    config = dataclasses.replace(tiny_config, method=method, **extra)
    result = train(config, tiny_data)
    assert 0 <= result.final_miou <= result.best_miou <= 100
    written = lines(config.output_dir)
    assert losses <= set().union(*written)
    assert ("previous/strong1" in set().union(*written)) == ("previous" in str(losses))


def test_run_writes_everything_a_reader_needs(tiny_config, tiny_data):
    result = train(tiny_config, tiny_data)
    folder = tiny_config.output_dir
    content = json.loads((folder / "result.json").read_text())
    assert content["best_miou"] == result.best_miou
    assert list(content["class_iou"]) == list(tiny_data.source.class_names)
    assert np.mean(list(content["class_iou"].values())) == pytest.approx(result.best_miou)
    assert content["config"] == json.loads((folder / "config.json").read_text())
    assert content["labelled"] == 2
    assert content["environment"]["torch"] == version("torch")
    epochs = [line for line in lines(folder) if "epoch" in line]
    steps = [line for line in lines(folder) if "loss" in line]
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert [line["step"] for line in steps] == [1, 2, 4, 5]
    assert max(line["miou"] for line in epochs) == result.best_miou
    for model in (folder / "best", folder / "checkpoints" / "step_00000006" / "model"):
        assert Segmenter.from_pretrained(model).config.class_names == tiny_data.source.class_names


def test_run_that_died_after_its_last_step_goes_on_and_counts_all_of_its_steps(tiny_config, tiny_data, monkeypatch):
    def dies(*_):
        raise RuntimeError("died")

    config = dataclasses.replace(tiny_config, epochs=1, checkpointing_steps=3)
    with monkeypatch.context() as patch:
        patch.setattr("prevmatch.loop.score", dies)
        with pytest.raises(RuntimeError, match="died"):
            train(config, tiny_data)
    assert (config.output_dir / "checkpoints" / "step_00000003").is_dir()
    result = train(dataclasses.replace(config, resume=True), tiny_data)
    told = json.loads((config.output_dir / "result.json").read_text())
    assert result.seconds_per_iteration == pytest.approx(told["seconds"] / 3)


def test_saved_model_scores_what_the_run_reports(tiny_config, tiny_data):
    from prevmatch.data.reading import read_pair
    from prevmatch.metrics import confusion_matrix, iou

    result = train(tiny_config, tiny_data)
    model = Segmenter.from_pretrained(tiny_config.output_dir / "checkpoints" / "step_00000006" / "model")
    total = 0
    for row in tiny_data.val:
        image, mask = read_pair(row, tiny_data.source)
        total += confusion_matrix(torch.from_numpy(model.predict(image)), torch.from_numpy(np.array(mask)), 5)
    # The run scored with folded BatchNorm: a pixel between two classes may fall to the other one.
    assert iou(total).mean().item() == pytest.approx(result.final_miou, abs=0.2)


def test_equal_seeds_give_equal_runs_and_others_do_not(tiny_config, tiny_data, tmp_path, one_thread):
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = dataclasses.replace(tiny_config, seed=seed, output_dir=tmp_path / name)
        train(config, tiny_data)
        runs.append(lines(config.output_dir))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_accumulated_batches_count_as_one_step(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, gradient_accumulation_steps=2, logging_steps=1)
    train(config, tiny_data)
    assert [line["step"] for line in lines(config.output_dir) if "loss" in line] == [0, 0, 1, 2, 2, 3]


def test_evaluation_can_be_rarer_but_never_misses_the_last_epoch(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, epochs=5, eval_every=3, method="supervised")
    train(config, tiny_data)
    assert [line["epoch"] for line in lines(config.output_dir) if "epoch" in line] == [2, 4]


def test_image_size_also_holds_for_data_handed_to_train(tiny_config, tiny_data, monkeypatch):
    import prevmatch.evaluate

    sizes = []

    def watched(network, samples, **options):
        samples = list(samples)
        sizes.extend(tuple(image.shape[1:]) for image, _ in samples)
        return evaluate(network, samples, **options)

    monkeypatch.setattr(prevmatch.evaluate, "evaluate", watched)
    train(dataclasses.replace(tiny_config, image_size=40, epochs=1, method="supervised"), tiny_data)
    assert set(sizes) == {(40, 40)}


def test_sliding_window_evaluation_runs_and_is_kept_with_the_model(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, eval_window=48, epochs=1, method="supervised")
    train(config, tiny_data)
    assert Segmenter.from_pretrained(config.output_dir / "best").config.eval_window == 48


def test_only_a_strictly_better_score_is_a_new_best():
    state = TrainState()
    for epoch, (score, improved) in enumerate([(10.0, True), (10.0, False), (9.0, False), (11.0, True)]):
        state.record([score, score])
        assert state.improved is improved
        assert state.epoch == epoch + 1
    state.record(None)
    assert not state.improved
    assert (state.best_miou, state.best_epoch, state.epoch) == (11.0, 3, 5)


def test_existing_run_is_kept_unless_told_otherwise(tiny_config, tiny_data):
    tiny_config = dataclasses.replace(tiny_config, method="supervised", epochs=1)
    train(tiny_config, tiny_data)
    before = (tiny_config.output_dir / "result.json").read_text()
    with pytest.raises(ConfigError, match="already holds a run"):
        train(dataclasses.replace(tiny_config, seed=1), tiny_data)
    assert (tiny_config.output_dir / "result.json").read_text() == before
    train(dataclasses.replace(tiny_config, seed=1, overwrite_output_dir=True), tiny_data)
    assert json.loads((tiny_config.output_dir / "result.json").read_text())["config"]["seed"] == 1


def test_resume_replaces_neither_a_finished_run_nor_what_is_no_run(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, method="supervised", epochs=1, resume=True)
    folder = config.output_dir
    (folder / "curves").mkdir(parents=True)
    (folder / "curves/mine.txt").write_text("precious")
    for content in (None, '{"my": 1}'):
        if content:
            (folder / "config.json").write_text(content)
        with pytest.raises(
            ConfigError, match=r"holds (curves|config\.json), but no run, so there is nothing to resume"
        ):
            train(config, tiny_data)
    assert (folder / "curves/mine.txt").read_text() == "precious"
    (folder / "config.json").write_text(json.dumps(config.to_json()))  # it died before its first checkpoint
    train(config, tiny_data)
    assert not (folder / "curves/mine.txt").exists()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ConfigError, match="holds a finished run without checkpoints, so there is nothing to resume"):
        train(config, tiny_data)
    assert (folder / "result.json").is_file()


def test_run_that_replaces_another_leaves_no_study_of_it(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, method="supervised", epochs=1)
    for name in ("twin", "twin_time", "fold_1", "curve/25/fold_1"):
        (config.output_dir / name).mkdir(parents=True)
        (config.output_dir / name / "config.json").write_text("{}")
    train(config, tiny_data)
    assert (config.output_dir / "fold_1/config.json").is_file()  # nobody said that it may go
    (config.output_dir / "fold_of_mine").mkdir()
    (config.output_dir / "folds.json").write_text("{}")
    train(dataclasses.replace(config, overwrite_output_dir=True), tiny_data)
    left = {path.name for path in config.output_dir.iterdir()}
    assert not left & {"twin", "twin_time", "fold_1", "curve", "folds.json"}
    assert "fold_of_mine" in left


def test_output_folder_that_cannot_be_made_is_an_error(tiny_config, tiny_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        train(dataclasses.replace(tiny_config, output_dir=tmp_path / "file" / "run"), tiny_data)


def test_diverging_loss_stops_with_step_and_rate_and_keeps_the_last_good_model(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, method="supervised", logging_steps=1, epochs=3)
    train(dataclasses.replace(config, epochs=1), tiny_data)
    good = (config.output_dir / "best" / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"not finite (at|after) step \d+.*--lr"):
        train(dataclasses.replace(config, lr=1e20, output_dir=config.output_dir / "b"), tiny_data)
    assert (config.output_dir / "best" / "model.safetensors").read_bytes() == good
    assert not (config.output_dir / "b" / "best").exists()


def test_loss_that_turns_nan_is_reported_with_its_exact_step(tiny_config, tiny_data, monkeypatch):
    import prevmatch.loop

    calls = []
    real = prevmatch.loop.step

    def sabotaged(*args, **kwargs):
        said = real(*args, **kwargs)
        calls.append(None)
        loss = said.losses["loss"] * (float("nan") if len(calls) > 4 else 1)
        return said._replace(losses=said.losses | {"loss": loss})

    monkeypatch.setattr(prevmatch.loop, "step", sabotaged)
    with pytest.raises(TrainingError, match=r"at step 4 \(learning rate 5\.36e-04\)"):
        train(tiny_config, tiny_data)
    fault = json.loads((tiny_config.output_dir / "fault_step_4.json").read_text())
    assert fault["losses"]["loss"] == "nan"
    assert len(fault["samples"]) == 2
    assert all(name.startswith("train_000") for sample in fault["samples"] for name in sample.split(", "))
    Segmenter.from_pretrained(tiny_config.output_dir / "best")
    assert not (tiny_config.output_dir / "result.json").exists()


def nan_at(monkeypatch, *calls_with_nan):
    """Let the loss of those calls of the step be NaN, BatchNorm's statistics too."""
    import prevmatch.loop

    calls, real = [], prevmatch.loop.step

    def sabotaged(students, *args, **kwargs):
        calls.append(None)
        said = real(students, *args, **kwargs)
        if len(calls) - 1 not in calls_with_nan:
            return said
        for buffer in students[0].network.buffers():
            if buffer.is_floating_point() and buffer.ndim == 1:
                buffer.data.fill_(float("nan"))
        return said._replace(losses=said.losses | {"loss": said.losses["loss"] * float("nan")})

    monkeypatch.setattr(prevmatch.loop, "step", sabotaged)


def test_steps_that_are_not_finite_are_left_out_if_asked(tiny_config, tiny_data, monkeypatch):
    nan_at(monkeypatch, 1, 4)
    config = dataclasses.replace(tiny_config, nonfinite="skip", logging_steps=1)
    assert train(config, tiny_data).final_miou > 0
    state = json.loads((config.output_dir / "checkpoints/step_00000006/state.json").read_text())["state"]
    assert (state["skipped"], state["step"]) == (2, 6)
    assert [line["step"] for line in lines(config.output_dir) if "loss" in line] == [0, 2, 3, 5]
    assert json.loads((config.output_dir / "fault_step_4.json").read_text())["losses"]["grad_norm"] == "nan"
    weights = load_file(config.output_dir / "checkpoints/step_00000006/model/model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_more_faults_than_allowed_end_the_run(tiny_config, tiny_data, monkeypatch):
    nan_at(monkeypatch, 1, 2)
    config = dataclasses.replace(tiny_config, nonfinite="skip", nonfinite_limit=1)
    with pytest.raises(TrainingError, match=r"not finite in 2 steps, the last one is 2; fault_step_2\.json names"):
        train(config, tiny_data)


@pytest.mark.parametrize("bad", [2, 3], ids=["first batch of the step", "last batch"])
def test_one_bad_batch_of_an_accumulated_step_counts_once_and_its_own_images_are_named(
    tiny_config, tiny_data, monkeypatch, bad
):
    nan_at(monkeypatch, bad)
    config = dataclasses.replace(
        tiny_config, nonfinite="skip", gradient_accumulation_steps=2, epochs=4, logging_steps=1, num_workers=0
    )
    import prevmatch.loop

    real, keys = prevmatch.loop.build_views, []

    def watched(batch, *args, **kwargs):
        keys.append(batch["keys"])
        return real(batch, *args, **kwargs)

    monkeypatch.setattr(prevmatch.loop, "build_views", watched)
    train(config, tiny_data)
    last = max((config.output_dir / "checkpoints").glob("step_*"))
    assert json.loads((last / "state.json").read_text())["state"]["skipped"] == 1
    [fault] = config.output_dir.glob("fault_step_*.json")
    from prevmatch.data.loader import TripleSampler

    sampler = TripleSampler(len(tiny_data.labelled), len(tiny_data.unlabelled), seed=config.seed)
    named = json.loads(fault.read_text())["samples"]
    for (epoch, position), names in zip(keys[bad], named, strict=True):
        triple = sampler.order(epoch)[position]
        assert names.split(", ")[0] == tiny_data.labelled[triple.labelled]["id"]
        assert names.split(", ")[1] == tiny_data.unlabelled[triple.unlabelled]["id"]
    weights = load_file(last / "model/model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_no_checkpoint_holds_weights_that_are_not_finite(tiny_config, tiny_data, monkeypatch, what):
    """Even where checkpoints are more frequent than records: the last good ones stay."""
    import prevmatch.loop

    calls, real = [], prevmatch.loop.step

    def sabotaged(students, *args, **kwargs):
        said = real(students, *args, **kwargs)
        calls.append(None)
        if len(calls) == 4 and what == "weights":
            with torch.no_grad():
                students[0].network.decoder.classifier.bias.fill_(float("inf"))
        bad = len(calls) >= 4 and what == "loss"
        return said._replace(losses=said.losses | {"loss": said.losses["loss"] * (float("nan") if bad else 1)})

    monkeypatch.setattr(prevmatch.loop, "step", sabotaged)
    config = dataclasses.replace(tiny_config, checkpointing_steps=1, logging_steps=100, epochs=4)
    with pytest.raises(TrainingError, match=r"not finite (at|after) step 3"):
        train(config, tiny_data)
    monkeypatch.setattr(prevmatch.loop, "step", real)
    kept = sorted((config.output_dir / "checkpoints").glob("step_*"))
    assert [folder.name for folder in kept] == ["step_00000002", "step_00000003"]
    for folder in kept:
        assert all(t.isfinite().all() for t in load_file(folder / "model/model.safetensors").values())
    assert train(dataclasses.replace(config, resume=True), tiny_data).final_miou >= 0


def test_resuming_notices_a_file_that_changed_under_its_name_and_size(tiny_config, tiny_data, tmp_path):
    def on_disk(rows, part):
        cells = {"image": [], "mask": []}
        for row in rows:
            for column, found in cells.items():
                path = tmp_path / f"{part}-{row['id']}-{column}.png"
                path.write_bytes(row[column]["bytes"])
                found.append({"path": str(path), "bytes": None})
        return table(rows["id"], cells["image"], cells["mask"])

    source = dataclasses.replace(tiny_data.source, val=on_disk(tiny_data.val, "val"))
    labelled, unlabelled = on_disk(tiny_data.labelled, "labelled"), on_disk(tiny_data.unlabelled, "unlabelled")
    data = dataclasses.replace(tiny_data, source=source, labelled=labelled, unlabelled=unlabelled)
    config = dataclasses.replace(tiny_config, epochs=1, panel_every=0)
    train(config, data)
    config = dataclasses.replace(config, resume=True)
    train(config, data)
    for part in ("labelled", "unlabelled", "val"):
        path = next(tmp_path.glob(f"{part}-*-image.png"))
        content = path.read_bytes()
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        with pytest.raises(
            ConfigError, match=rf"other files: some of the {part}\w* images, or their masks, have chang"
        ):
            train(config, data)
        path.write_bytes(content)


def test_what_is_scored_is_what_is_kept_as_the_best(tiny_config, tiny_data):
    from prevmatch.data.reading import read_pair
    from prevmatch.metrics import confusion_matrix, iou

    config = dataclasses.replace(tiny_config, method="fixmatch", ema_decay=0.5, score="ema", epochs=1)
    result = train(config, tiny_data)
    checkpoint = max((config.output_dir / "checkpoints").glob("step_*"))
    best, average, network = (
        load_file(folder / "model.safetensors")
        for folder in (config.output_dir / "best", checkpoint / "average", checkpoint / "model")
    )
    assert all(torch.equal(best[name], average[name]) for name in best)
    assert not all(torch.equal(best[name], network[name]) for name in best)
    total = 0
    for row in tiny_data.val:
        image, mask = read_pair(row, tiny_data.source)
        ids = Segmenter.from_pretrained(config.output_dir / "best").predict(image)
        total += confusion_matrix(torch.from_numpy(ids), torch.from_numpy(np.array(mask)), 5)
    assert iou(total).mean().item() == pytest.approx(result.final_miou)


def test_learning_rate_follows_schedule_and_warm_up(tiny_config, tiny_data):
    config = dataclasses.replace(
        tiny_config, method="supervised", optimizer="adamw", lr=0.01, lr_schedule="cosine", warmup_steps=2,
        logging_steps=1,
    )  # fmt: skip
    train(config, tiny_data)
    rates = [line["lr"] for line in lines(config.output_dir) if "lr" in line]
    expected = [0.005 * (1 + np.cos(np.pi * step / 6)) for step in range(6)]
    assert rates == pytest.approx([expected[0] / 2, *expected[1:]])


def test_finite_loss_with_a_gradient_that_is_not_is_named_at_its_own_step(tiny_config, tiny_data, monkeypatch):
    import prevmatch.loop

    calls, real = [], prevmatch.loop.gradient_norm

    def sabotaged(networks):
        calls.append(None)
        if len(calls) == 3:
            next(networks[0].parameters()).grad.fill_(float("inf"))
        return real(networks)

    monkeypatch.setattr(prevmatch.loop, "gradient_norm", sabotaged)
    with pytest.raises(TrainingError, match="at step 2 "):
        train(tiny_config, tiny_data)


def test_error_in_a_loader_worker_is_one_line_with_the_file(tiny_config, tiny_source):
    rows = tiny_source.train.to_list()
    rows[0]["mask"] = {"path": "/nowhere/m.png", "bytes": b"torn"}
    broken = table(*([row[k] for row in rows] for k in ("id", "image", "mask")))
    data = divide(dataclasses.replace(tiny_source, train=broken))
    with pytest.raises(DataError) as caught:
        train(dataclasses.replace(tiny_config, num_workers=2), data)
    assert str(caught.value).startswith("/nowhere/m.png (id 'train_0000') ")
    assert "\n" not in str(caught.value)


def test_tracker_that_is_not_installed_is_an_error(tiny_config, tiny_data, monkeypatch):
    monkeypatch.setattr("prevmatch.run.launch.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        train(dataclasses.replace(tiny_config, report_to=("wandb",)), tiny_data)


def test_guides_can_be_asked_in_bf16_while_training_and_the_bank_are_in_fp32(tiny_config, tiny_data, monkeypatch):
    from prevmatch.models.frozen import Frozen

    folders, used, real = [], [], Frozen.form

    def watched(self, tensors):
        formed = real(self, tensors)
        used[-1].update(t.dtype for t in formed.values() if t.ndim == 4)
        return formed

    monkeypatch.setattr(Frozen, "form", watched)
    for precision in ("training", "bf16"):
        used.append(set())
        config = dataclasses.replace(
            tiny_config, guide_precision=precision, output_dir=tiny_config.output_dir / precision
        )
        train(config, tiny_data)
        folders.append(config.output_dir / "checkpoints" / "step_00000006")
        for name in ("previous.safetensors", "model/model.safetensors"):
            assert {t.dtype for t in load_file(folders[-1] / name).values()} <= {torch.float32, torch.int64}
    losses = [[line["loss"] for line in lines(f.parents[1]) if "loss" in line] for f in folders]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert used == [{torch.float32}, {torch.float32, torch.bfloat16}]  # scores are in fp32


def test_weights_of_classes_follow_the_labelled_masks_alone(tiny_config, tiny_data, monkeypatch):
    seen, real = [], prevmatch.loop.cross_entropy

    def watched(logits, target, *, class_weight):
        seen.append(class_weight)
        return real(logits, target, class_weight=class_weight)

    monkeypatch.setattr(prevmatch.loop, "cross_entropy", watched)
    train(dataclasses.replace(tiny_config, epochs=1, class_weights="inverse_log", panel_every=0), tiny_data)
    masks = [np.asarray(read_mask(row, tiny_data.source)) for row in tiny_data.labelled]
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=5)
    assert len(pixels) == 5
    assert seen
    for weight in seen:
        torch.testing.assert_close(weight, inverse_log_weights(torch.from_numpy(pixels)))


def test_bf16_trains_and_scores_in_fp32(tiny_config, tiny_data, monkeypatch):
    seen = []

    def watched(network, images, window, **_):
        logits = network(images)
        seen.append(logits.dtype)
        return logits

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr("prevmatch.evaluate.class_scores", watched)
    AcceleratorState._reset_state(True)
    try:
        train(tiny_config, tiny_data)
    finally:
        AcceleratorState._reset_state(True)
    content = json.loads((tiny_config.output_dir / "result.json").read_text())
    assert content["environment"]["mixed_precision"] == "bf16"
    assert set(seen) == {torch.float32}
    assert all(
        t.dtype != torch.bfloat16 for t in load_file(tiny_config.output_dir / "best/model.safetensors").values()
    )


def test_by_what_a_run_was_sized_does_not_matter_when_it_goes_on(tiny_config, tiny_data):
    sized = dataclasses.replace(tiny_config, epochs=0, epoch_images=0, steps=2, panel_every=0)
    train(sized, tiny_data)
    begun = json.loads((tiny_config.output_dir / "config.json").read_text())
    alike = dataclasses.replace(
        sized, steps=0, epochs=begun["epochs"], epoch_images=begun["epoch_images"], resume=True
    )
    train(alike, tiny_data)
    with pytest.raises(ConfigError, match=r"other settings: .*epoch"):
        train(dataclasses.replace(sized, steps=30, resume=True), tiny_data)


@pytest.mark.variation
def test_compiled_network_trains_alike(tiny_config, tiny_data, tmp_path, monkeypatch, one_thread):
    # aot_eager traces and differentiates as `--dynamo_backend inductor` does, without a minute of compiling.
    from torch._dynamo.utils import counters

    losses = []
    for backend in ("no", "aot_eager"):
        counters.clear()
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
        config = dataclasses.replace(tiny_config, output_dir=tmp_path / backend, logging_steps=1)
        AcceleratorState._reset_state(True)
        try:
            train(config, tiny_data)
        finally:
            AcceleratorState._reset_state(True)
        assert (counters["stats"]["unique_graphs"] > 0) == (backend != "no")
        assert counters["graph_break"] == {}
        losses.append([line["loss"] for line in lines(config.output_dir) if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_tensorboard_gets_the_metrics(tiny_config, tiny_data):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    config = dataclasses.replace(tiny_config, report_to=("tensorboard",), epochs=1)
    train(config, tiny_data)
    assert list(config.output_dir.rglob("events.out.tfevents*"))


def test_processes_that_do_not_find_each_other_are_noticed(tiny_config, tiny_data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were launched but each trains alone"):
        train(tiny_config, tiny_data)


def test_images_without_any_mask_serve_as_unlabelled(tiny_config, tiny_source):
    bare = tiny_source.train.map(lambda row: {"mask": row["mask"] if row["id"] < "train_0002" else None})
    from prevmatch.data.sources import TrainingData
    from prevmatch.data.splits import select

    labelled, unlabelled = select(bare, ["train_0000", "train_0001"])
    data = TrainingData(source=tiny_source, labelled=labelled, unlabelled=unlabelled)
    assert train(dataclasses.replace(tiny_config, epochs=1), data).final_miou >= 0


def test_supervised_run_takes_data_whose_images_are_all_labelled_and_goes_on_bit_by_bit(
    tiny_config, tiny_source, monkeypatch, tmp_path, one_thread
):
    import prevmatch.loop

    class Killed(BaseException):
        pass

    def dies_at_the_sixth_step(*args, **kwargs):
        calls.append(None)
        if len(calls) == 6:
            raise Killed
        return real(*args, **kwargs)

    data, real, calls = divide(tiny_source, "1_1"), prevmatch.loop.step, []
    config = dataclasses.replace(
        tiny_config, method="supervised", epochs=2, panel_every=1, checkpointing_steps=1, resume=True
    )
    whole, resumed = (dataclasses.replace(config, output_dir=tmp_path / name) for name in ("whole", "resumed"))
    train(whole, data)
    monkeypatch.setattr(prevmatch.loop, "step", dies_at_the_sixth_step)
    with pytest.raises(Killed):
        train(resumed, data)
    train(resumed, data)
    assert 2 <= len(calls) - 6 <= 4  # the run has eight steps, one pass over eight images in two epochs of four
    weights = [
        load_file(folder / "checkpoints/step_00000008/model/model.safetensors")
        for folder in (whole.output_dir, resumed.output_dir)
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert lines(whole.output_dir) == lines(resumed.output_dir)
    content = json.loads((whole.output_dir / "result.json").read_text())
    assert (content["labelled"], content["unlabelled"]) == (8, 0)
    assert len(list((whole.output_dir / "panels").iterdir())) == 2


@pytest.mark.parametrize("settings", [{"method": "prevmatch"}, {"method": "supervised", "previous_guidance": True}])
def test_methods_that_need_unlabelled_images_are_refused_before_anything_is_written(
    tiny_config, tiny_source, settings
):
    with pytest.raises(DataError, match=r"no image is unlabelled; .*--method supervised without previous guidance"):
        train(dataclasses.replace(tiny_config, **settings), divide(tiny_source, "1_1"))
    assert not tiny_config.output_dir.exists()


def test_supervised_epoch_passes_the_unlabelled_images_where_there_are_any(tiny_config, tiny_data):
    config = dataclasses.replace(tiny_config, method="supervised", epochs=1, logging_steps=1)
    train(config, tiny_data)  # two labelled images, each three times
    assert [line["step"] for line in lines(config.output_dir) if "loss" in line] == [0, 1, 2]


def test_a_new_guide_needs_no_new_loop(tiny_config, tiny_data, monkeypatch):
    """A guide that remembers something, in the few lines that it takes."""
    from prevmatch.guides.guide import Guide
    from prevmatch.guides.thresholds import accepts_of
    from prevmatch.methods import FIXMATCH, METHODS

    class Counting(Guide):
        steps = 0

        def label(self, images):
            return torch.ones(len(images), 5, 1, 1)

        def follow(self, logits, mask):
            assert logits.shape[:2] == (2, 5)
            assert not logits.requires_grad
            assert mask.shape == (2, 33, 33)
            self.steps += 1

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

    def counting(config, versions):
        return Counting(name="counting", accepts=accepts_of(config, 0.1, None))

    method = dataclasses.replace(FIXMATCH, guides=(counting,))
    monkeypatch.setitem(METHODS, "fixmatch", method)
    config = dataclasses.replace(tiny_config, method="fixmatch")
    train(config, tiny_data)
    assert any("counting/mask_ratio" in line for line in lines(config.output_dir))
    for steps in (3, 6):
        state = json.loads((config.output_dir / f"checkpoints/step_{steps:08d}/state.json").read_text())
        assert state["memory"]["counting"] == ["dict", [["steps", steps]]]


def test_camvid_folder_trains(tmp_path, tiny_config):
    for part, count in (("train", 4), ("val", 1)):
        (tmp_path / part).mkdir()
        (tmp_path / f"{part}annot").mkdir()
        for i in range(count):
            rng = np.random.default_rng(i)
            Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(tmp_path / part / f"{i}.png")
            Image.fromarray(rng.integers(0, 12, (36, 48), dtype=np.uint8)).save(tmp_path / f"{part}annot" / f"{i}.png")
    config = dataclasses.replace(tiny_config, dataset="camvid", data_dir=tmp_path, split="1_2", epochs=1)
    assert "bicyclist" in train(config).class_iou
    with pytest.raises(ConfigError, match="--data_dir"):
        train(dataclasses.replace(config, data_dir=None))
