"""Results → the published layout."""

import json
from typing import get_args

import pytest

from prevmatch.config import MethodName, TrainConfig, full_name
from prevmatch.errors import ConfigError, DataError
from prevmatch.studies.table import BACKBONES, published_results, read_results, table

R50 = "resnet50s"


def result(method="prevmatch", encoder=R50, split="92", seed=0, best=70.0, final=69.0, **settings):
    config = TrainConfig(dataset="pascal", method=method, encoder=encoder, split=split, seed=seed, **settings)
    return {
        "best_miou": best, "final_miou": final, "seconds": 3600.0, "config": config.to_json(),
        "environment": {"device": "cpu", "mixed_precision": "no", "torch": "2.15", "commit": "abc"},
    }  # fmt: skip


def reason(method, encoder):
    return f"not run: {method} {encoder}"


def save(folder, name, content):
    (folder / name).mkdir(parents=True)
    (folder / name / "result.json").write_text(json.dumps(content))


def row_of(text, method, what, backbone="R50"):
    """Cells of a method's line `what`."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    start = next(i for i, line in enumerate(lines) if line[:2] == [method, backbone])
    return next(line[3:] for line in lines[start:] if line[2] == what)


def test_cells_are_mean_deviation_count_and_difference():
    runs = [result(seed=s, best=b, final=b - 1) for s, b in enumerate((72.0, 74.0, 73.0))]
    text = table(
        "pascal", runs, ["prevmatch"], [R50], ["92", "183"], lambda method, encoder: f"not run: {method} {encoder}"
    )
    assert row_of(text, "PrevMatch", "ours, best epoch") == ["73.0 ± 1.0 (n=3)", "not run: prevmatch resnet50s"]
    assert row_of(text, "PrevMatch", "ours, final epoch") == ["72.0 ± 1.0 (n=3)", ""]
    assert row_of(text, "PrevMatch", "published") == ["73.4", "75.4"]
    assert row_of(text, "PrevMatch", "difference of best") == ["-0.4", ""]


def test_one_seed_has_no_deviation():
    text = table("pascal", [result(best=70.04)], ["prevmatch"], [R50], ["92"], reason)
    assert row_of(text, "PrevMatch", "ours, best epoch") == ["70.0 (n=1)"]


def test_published_number_is_that_of_the_same_crop():
    blended = [result(split="1_16", crop_size=crop) for crop in (513,)]
    text = table("pascal", blended, ["prevmatch"], [R50], ["1_16"], reason)
    assert row_of(text, "PrevMatch", "published") == ["76.0 (c)"]
    text = table("pascal", [result(split="1_16", crop_size=321)], ["prevmatch"], [R50], ["1_16"], reason)
    assert row_of(text, "PrevMatch", "published") == ["75.6 (c)"]


def test_rows_of_other_methods_are_shown_as_published_and_discrepancies_are_noted():
    text = table("pascal", [], ["prevmatch"], [R50], ["92"], lambda *_: "no data: give DATA_DIR")
    assert "no data: give DATA_DIR" in text
    assert row_of(text, "UniMatch V2", "published, not run", "DINOv2-B") == ["86.3"]
    assert row_of(text, "UniMatch", "published, not run") == ["71.9"]
    assert row_of(text, "CorrMatch, output stride 8", "published", "R101") == ["76.4"]
    assert "chosen on the validation images" in text
    assert "trained at crop 513, the R101 row at 321" in text


def test_recipe_without_published_table_has_only_ours():
    text = table("shapes", [result(encoder="x", split="1_32")], ["prevmatch"], ["x"], ["1_32"], reason)
    assert "published |" not in text
    assert "| PrevMatch | x | ours, best epoch | 70.0 (n=1) |" in text


def test_published_tables_are_complete():
    own = ("supervised", "unimatch", "prevmatch")
    for name, splits, methods in (
        ("pascal", 5, own), ("cityscapes", 4, own), ("ade20k", 4, ("supervised", "unimatch_v2")),
        ("coco", 5, ("supervised", "unimatch_v2")),
    ):  # fmt: skip
        known = published_results()[name]
        for method in methods:
            for encoder in known["encoders"]:
                rows = [r for r in known["rows"] if (r.get("method"), r.get("encoder")) == (method, encoder)]
                assert any(set(known["splits"]) <= set(r["miou"]) for r in rows), (name, method, encoder)
        assert len(known["splits"]) == splits


def test_every_published_row_is_of_known_names_and_every_mark_is_explained():
    for name, known in published_results().items():
        for row in known["rows"]:
            assert row.get("method", "supervised") in get_args(MethodName), row
            assert ("method" in row) == ("encoder" in row), row
            assert row["backbone"] == BACKBONES[row["encoder"]] if "encoder" in row else row["backbone"]
            assert all(20 < value < 95 for value in row["miou"].values())
            for mark in row.get("mark", "").split(", ") if "mark" in row else ():
                assert any(note.startswith(f"{mark}: ") for note in known["notes"]), (name, mark)
        frozen = [row["backbone"] for row in known["rows"] if row.get("frozen")]
        assert frozen == ["DINOv2-S", "DINOv2-B"]


def test_a_best_seed_is_marked():
    text = table("pascal", [], ["prevmatch"], [R50], ["183"], reason)
    assert row_of(text, "CW-BASS v2", "published", "DINOv2-B") == ["87.4 (s)"]
    assert "* s: the best of several seeds" in text


def test_runs_over_a_frozen_encoder_are_held_against_published_ones_that_are_too():
    vit = full_name("dinov2_small")
    for frozen, published, other in ((True, "81.8", "79.0"), (False, "79.0", "81.8")):
        run = result("unimatch_v2", vit, best=80.0, freeze_encoder=frozen)
        text = table("pascal", [run], ["unimatch_v2"], [vit], ["92"], reason)
        assert row_of(text, "UniMatch V2", "published", "DINOv2-S") == [published]
        label = "UniMatch V2" if frozen else "UniMatch V2, encoder frozen"
        assert f"| {label} | DINOv2-S | published, not run | {other} |" in text


def test_published_shares_of_the_gap():
    """(method − labels only) / (all labels − labels only)."""
    vit = full_name("dinov2_base")
    text = table("coco", [], ["supervised", "unimatch_v2"], [vit], ["1_512", "1_32"], reason)
    assert row_of(text, "UniMatch V2", "published share of the gap closed", "DINOv2-B") == ["38 %", "55 %"]
    assert row_of(text, "Labels of all images", "published", "DINOv2-B") == ["66.4", "66.4"]
    after = text.partition("| Labels of all images |")[2]
    assert row_of(after, "UniMatch", "published share of the gap closed", "DINOv2-B") == ["29 %", ""]
    text = table("pascal", [], ["supervised", "unimatch_v2"], [vit], ["92"], reason)
    assert "share of the gap" not in text  # no number is published for the labels of all images


def test_runs_of_other_settings_do_not_mix(tmp_path):
    save(tmp_path, "a", result(seed=0))
    save(tmp_path, "b", result(seed=1, method="unimatch", num_workers=9, logging_steps=3))
    assert len(read_results(tmp_path)) == 2
    save(tmp_path, "c", result(epochs=3))
    with pytest.raises(ConfigError, match=r"c was run with epochs=3, other runs in .* with 80"):
        read_results(tmp_path)


def test_another_method_brings_settings_of_its_own(tmp_path):
    save(tmp_path, "a", result())
    save(tmp_path, "b", result("augseg", crop_size=513, total_batch_size=16))
    assert len(read_results(tmp_path)) == 2
    save(tmp_path, "c", result("augseg", seed=1))
    with pytest.raises(ConfigError, match=r"c was run with crop_size=321, other runs in .* with 513"):
        read_results(tmp_path)


def test_another_encoder_brings_settings_of_its_own(tmp_path):
    vit = full_name("dinov2_small")
    for name, content in {
        "a": result(), "b": result(method="unimatch_v2", encoder=vit, crop_size=518, epochs=60, best=80.0),
        "c": result(encoder=vit, crop_size=518, epochs=60),
    }.items():  # fmt: skip
        save(tmp_path, name, content)
    runs = read_results(tmp_path)
    text = table("pascal", runs, ["prevmatch", "unimatch_v2"], [R50, vit], ["92"], reason)
    assert row_of(text, "UniMatch V2", "published", "DINOv2-S") == ["79.0"]
    assert row_of(text, "UniMatch V2", "difference of best", "DINOv2-S") == ["+1.0"]
    save(tmp_path, "d", result(encoder=vit, seed=1))
    with pytest.raises(ConfigError, match=r"d was run with crop_size=321, other runs in .* with 518"):
        read_results(tmp_path)


def test_torn_result_is_named(tmp_path):
    save(tmp_path, "a", result())
    (tmp_path / "a/result.json").write_text('{"best')
    with pytest.raises(DataError, match=r"a/result\.json is damaged"):
        read_results(tmp_path)


def test_a_run_that_was_resumed_or_had_a_time_limit_belongs_to_its_table(tmp_path):
    save(tmp_path, "a", result(seed=0))
    save(tmp_path, "b", result(seed=1, resume=True, max_hours=2.0, checkpointing_steps=7, nonfinite="skip"))
    earlier = result(seed=2)
    del earlier["config"]["ema_decay"], earlier["config"]["optimizer"]  # as an earlier version wrote it
    save(tmp_path, "c", earlier)
    assert len(read_results(tmp_path)) == 3


def test_share_of_the_gap_to_the_labels_of_all_images():
    few = [result("supervised", final=50.0, seed=s) for s in (0, 1)]
    own = [result("mean_teacher", final=f, seed=s) for s, f in enumerate((53.0, 55.0))]
    oracle = [result("supervised", split="all", final=f, seed=s) for s, f in enumerate((57.0, 59.0))]
    text = table("pascal", few + own + oracle, ["supervised", "mean_teacher"], [R50], ["92"], reason)
    assert row_of(text, "Mean Teacher", "share of the gap closed") == ["50 %"]
    assert row_of(text, "Labels of all images", "ours, final epoch") == ["58.0 ± 1.4 (n=2)"]
    assert text.count("share of the gap") == 1  # labels only are where the gap begins


def test_no_share_where_all_labels_bring_nothing():
    runs = [result("supervised"), result("mean_teacher"), result("supervised", split="all")]
    text = table("pascal", runs, ["supervised", "mean_teacher"], [R50], ["92"], reason)
    assert row_of(text, "Mean Teacher", "share of the gap closed") == ["no gap"]
