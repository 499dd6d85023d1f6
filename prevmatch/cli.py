"""Command line: what the recipes and the `prevmatch` command share. Heavy imports wait until they are needed."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from prevmatch import __version__
from prevmatch.config import (
    OWN_DATA,
    DataConfig,
    DatasetName,
    ExportFormat,
    MapKind,
    PredictConfig,
    TableConfig,
    TrainConfig,
    full_name,
)
from prevmatch.errors import ConfigError, DataError, PrevMatchError
from prevmatch.options import flattened, require_known, sectioned
from prevmatch.printable import printable

Value = TypeVar("Value")
if TYPE_CHECKING:
    OwnData = Any
else:
    OwnData = sectioned(OWN_DATA)


def parse_recipe(
    default: TrainConfig,
    description: str | None = None,
    variants: Mapping[str, TrainConfig] | None = None,
    args: list[str] | None = None,
) -> TrainConfig:
    """A recipe's settings, each of which the command line (or `args`) can override.

    Over one of `variants` instead of `default` where a DINOv2 encoder is asked for (`dinov2`), or else by the name of
    the method; not over that of a plain ViT with another kind of encoder, nor the reverse.
    """
    require_known(sys.argv[1:] if args is None else args)

    def parse(default: TrainConfig) -> TrainConfig:
        return flattened(tyro.cli(sectioned(default), description=description, use_underscores=True, args=args))

    config = parse(default=default)
    config = _planned(config, default)
    variant = (variants or {}).get("dinov2" if "dinov2" in config.encoder else config.method)
    if variant is None:
        return config
    other = parse(default=variant)
    kinds = ["vit" in full_name(each.encoder) for each in (other, variant)]
    return other if kinds[0] == kinds[1] else config


def _planned(config: TrainConfig, default: TrainConfig) -> TrainConfig:
    """The settings with those of a plan, if they name one, where they are as in the recipe."""
    if config.plan is None:
        return config
    from prevmatch.run.plan import OF_ENCODERS, read_plan

    plan = read_plan(Path(config.plan))
    if config.epochs != default.epochs:  # which mean passes over the images, not over what the plan's schedule takes
        plan = {name: value for name, value in plan.items() if name not in ("epoch_images", "bank_interval")}
    if config.encoder not in (default.encoder, plan.get("encoder", config.encoder)):  # then they suit another one
        plan = {name: value for name, value in plan.items() if name not in OF_ENCODERS}
    plan = {name: value for name, value in plan.items() if getattr(config, name) == getattr(default, name)}
    try:
        return TrainConfig.from_json(config.to_json() | plan)
    except ConfigError as error:
        raise ConfigError(f"with plan {config.plan}: {error}") from error


def run_recipe(
    default: TrainConfig, description: str | None = None, variants: Mapping[str, TrainConfig] | None = None
) -> None:
    """Train with the settings that `parse_recipe` returns."""
    or_exit(lambda: _train_and_tell(parse_recipe(default, description, variants)))


def _train_and_tell(config: TrainConfig) -> None:
    from accelerate import PartialState

    from prevmatch.studies.study import study

    PartialState().print("\n".join(study(config)))


def or_exit(command: Callable[[], Value]) -> Value:
    """Run a command; an error raised on purpose, or by the file system, becomes one line and its exit status.

    That is 75 for a run that was stopped and can be resumed, 130 after Ctrl-C twice, 1 for everything else; and 141,
    without a line, where whoever read the output, as `head`, has ended.
    """
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # while its failure can be caught
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        sys.exit(141)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    except PrevMatchError as error:
        print(f"{'stopped' if error.status == 75 else 'error'}: {error}", file=sys.stderr)
        sys.exit(error.status)
    except OSError as error:
        sys.exit(f"error: {printable(error)}")


def train(settings: Annotated[OwnData, tyro.conf.arg(name="")]) -> None:
    """Train on your own images: all of them in DATA_DIR/images, masks of the same name for some in DATA_DIR/masks.

    One class id per pixel, 255 = ignored; exports of labelling tools are understood too. Crop, schedule and optimiser
    are fitted to data and encoder (0 means that). In several processes: accelerate launch -m prevmatch train …
    """
    _train_and_tell(_planned(flattened(settings), OWN_DATA))


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    output_dir: Path = Path("outputs/comparison"),
    count: int = 12,
    overwrite: bool = False,
) -> None:
    """Print one table of finished runs and write side-by-side pictures of their models.

    Args:
        runs: Output folders of finished runs of one data set.
        output_dir: Where TABLE.md and the pictures go.
        count: How many validation images to show.
        overwrite: Also replace files in output_dir that this command did not write.
    """
    from prevmatch.studies.compare import compare as compare_runs

    print(compare_runs(runs, output_dir, count=count, overwrite=overwrite))
    print(f"\npictures: {output_dir}")


def prepare(
    name: tyro.conf.Positional[DatasetName],
    /,
    *,
    output_dir: Path,
    data: tyro.conf.OmitArgPrefixes[DataConfig],
    decoded: bool = False,
    allow_incomplete: bool = False,
    rows_per_shard: int = 0,
    overwrite: bool = False,
    push_to_hub: str | None = None,
) -> None:
    """Make a raw data set into one self-contained folder of parquet files that `datasets` loads.

    Args:
        name: Which data set.
        output_dir: Where it goes; an interrupted preparation goes on.
        data: Where the raw folder is and how it is read; Pascal needs the published lists to know its images.
        decoded: Store pixels instead of compressed files: more space, nearly no decoding.
        allow_incomplete: Accept other image counts than the published ones.
        rows_per_shard: Images per parquet file; 0 makes files of about 400 MB.
        overwrite: Replace another preparation, or other files, in output_dir.
        push_to_hub: Also upload it to this Hub data set (USER/NAME), private if it is new.
    """
    from prevmatch.data.from_settings import load_source
    from prevmatch.data.gate import class_table
    from prevmatch.data.prepare import COUNTS, Preparation, check_counts, push
    from prevmatch.data.prepare import prepare as write

    source = load_source(replace(data, dataset=name))
    for note in (*source.notes, *class_table(source)):
        print(note)
    if name in COUNTS and not allow_incomplete:
        check_counts(source, name)
    job = Preparation(source=source, name=name, output_dir=output_dir, decoded=decoded, rows_per_shard=rows_per_shard)
    write(job, overwrite=overwrite)
    print(f"{len(source.train)} training and {len(source.val)} validation images in {output_dir}")
    if push_to_hub is not None:
        print(push(output_dir, push_to_hub))


def check(
    folder: tyro.conf.Positional[Path],
    /,
    *,
    settings: Annotated[OwnData, tyro.conf.arg(name="")],
) -> None:
    """Look at your own data before training: what is found, classes and their shares, near copies, the settings that
    training will have and why, and how long it takes here. Writes check.html and plan.json to output_dir.

    Args:
        folder: The data: a folder, an export of a labelling tool, or a zip of one.
    """
    from prevmatch.use.check import check as look

    page, plan = look(replace(flattened(settings), data_dir=folder))
    print(f"photos under their masks: {page}\nsettings, to be edited and given back with --plan: {plan}")


def convert(file: tyro.conf.Positional[Path], /, *, output_dir: Path) -> None:
    """Make a checkpoint released with the paper, or with UniMatch V2, into a folder that `from_pretrained` loads.

    Args:
        file: A released .pth file, or the weights of a backbone alone; read weights-only.
        output_dir: Where the model folder goes.
    """
    from prevmatch.use.convert import convert as convert_checkpoint

    print(convert_checkpoint(file, output_dir))


def evaluate(
    model: tyro.conf.Positional[str],
    /,
    *,
    data: tyro.conf.OmitArgPrefixes[DataConfig],
    eval_window: int | None = None,
    num_workers: int = 2,
    output_dir: Path | None = None,
    save_maps: bool = False,
    overwrite: bool = False,
) -> None:
    """Print per-class IoU and mIoU of a model on a data set's validation images, by the published protocol.

    Args:
        model: A model folder, a run's output folder (its best model), or a Hub repository.
        data: Which data; by default what the run held out. Of another folder all masks, or those of its val part.
        eval_window: Side of a sliding window; by default the model knows whether it needs one.
        num_workers: Loader processes.
        output_dir: Also write evaluation.json there.
        save_maps: Also write the class ids of every image to output_dir/maps, as PNG with the palette.
        overwrite: Also replace files there that this command did not write.
    """
    from accelerate import PartialState

    from prevmatch.ownership import OwnFiles
    from prevmatch.use.scores import EVALUATION, of_run, score, write_evaluation

    if save_maps and output_dir is None:
        raise ConfigError("--save_maps needs --output_dir, where the maps go")
    meant = of_run(model, data, _named(sys.argv) & {field.name for field in fields(DataConfig)})
    maps = output_dir / "maps" if save_maps and output_dir is not None else None
    if output_dir is not None:
        OwnFiles(output_dir, overwrite=overwrite).require([output_dir / EVALUATION])
    evaluation = score(
        meant.model, meant.data, apart=meant.apart, held_out=meant.held_out, window=eval_window,
        num_workers=num_workers, maps=maps, overwrite=overwrite,
    )  # fmt: skip
    PartialState().print("\n".join(filter(None, (meant.note, *evaluation.notes, evaluation.table()))))
    if output_dir is not None and PartialState().is_main_process:
        write_evaluation(evaluation, output_dir, overwrite=overwrite)


def _named(args: Sequence[str]) -> set[str]:
    """The settings that a command line names."""
    flags = (arg[2:].partition("=")[0].replace("-", "_") for arg in args if arg.startswith("--"))
    return {name for flag in flags for name in (flag, flag.removeprefix("no_"))}


def predict(
    model: tyro.conf.Positional[str],
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    output_dir: Path,
    how: tyro.conf.OmitArgPrefixes[PredictConfig],
    overlay: bool = False,
    colour_map: bool = False,
    ids: bool = False,
    overwrite: bool = False,
    device: str | None = None,
) -> None:
    """Segment images, and folders of any length, and write maps of the classes; without --ids, --colour_map or
    --overlay all three.

    Args:
        model: A model folder, a run's output folder (its best model), or a Hub repository.
        inputs: Image files, and folders that are searched for images.
        output_dir: Maps go to ids/, colour_map/ and overlay/ in it, named like the images.
        how: How images are segmented.
        overlay: Write the images under the colours of their classes, with a legend.
        colour_map: Write the classes as PNG with a palette (its values are the class ids).
        ids: Write the class ids as grey PNG.
        overwrite: Also replace files in output_dir that this command did not write.
        device: Where to compute; by default the GPU, if there is one.
    """
    import torch

    from prevmatch.models.saved import best_of_run
    from prevmatch.models.segmenter import Segmenter
    from prevmatch.use.predict_files import find_inputs, predict_files

    wanted: dict[MapKind, bool] = {"ids": ids, "colour_map": colour_map, "overlay": overlay}
    kinds = [kind for kind, given in wanted.items() if given] or list(wanted)
    files = find_inputs(inputs, output_dir)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = Segmenter.from_pretrained(best_of_run(model), device=device)
    failures = predict_files(network, files, output_dir, kinds, how, overwrite=overwrite)
    if len(failures) < len(files):
        print(f"{len(files) - len(failures)} of {len(files)} images segmented, {', '.join(kinds)} in {output_dir}")
    if failures:
        print("\n".join(failures), file=sys.stderr)
        raise DataError(f"{len(failures)} of {len(files)} images could not be segmented; they are listed above")


def export(
    model: tyro.conf.Positional[str], /, *, format: ExportFormat, output: Path, overwrite: bool = False
) -> None:
    """Write a model for other runtimes: RGB images float32 (B, 3, H, W) in [0, 255] to logits (B, C, H, W), all sizes
    free. The file is only kept if its outputs agree with the model's.

    Args:
        model: A model folder, a run's output folder (its best model), or a Hub repository.
        format: ONNX (needs the extra `export`), TorchScript, or a program of torch.export.
        output: The file to write.
        overwrite: Replace that file if it is there.
    """
    from prevmatch.models.saved import best_of_run
    from prevmatch.models.segmenter import Segmenter
    from prevmatch.use.export import CHECKED_SIZES
    from prevmatch.use.export import export as write

    network = Segmenter.from_pretrained(best_of_run(model))
    difference = write(network, format, output, overwrite=overwrite)
    print(f"{output}: logits differ by at most {difference:.2g} from the model's at {len(CHECKED_SIZES)} sizes")


def table(plan: tyro.conf.OmitArgPrefixes[TableConfig], *, only_plan: bool = False) -> None:
    """Run what is missing of a published table, method × encoder × split × seed, and write TABLE.md.

    Args:
        plan: What to run.
        only_plan: Show the plan and the table of what is done, and stop.
    """
    from prevmatch.studies.reproduce import reproduce

    print(f"\n{reproduce(plan, only_plan=only_plan)}\nwritten to {plan.results_dir / 'TABLE.md'}")


def push(
    folder: tyro.conf.Positional[Path],
    repo_id: tyro.conf.Positional[str],
    /,
    *,
    private: bool = False,
    license: str | None = None,
    samples: bool = True,
    space: bool = False,
    output_dir: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Upload a model with a card that says what is known about it; doing so again updates both.

    Args:
        folder: A run's output folder (its best model) or a model folder.
        repo_id: The Hub repository (USER/NAME), created if needed.
        private: Create it private.
        license: The model's licence as the Hub abbreviates it, e.g. apache-2.0 or cc-by-nc-4.0.
        samples: Also upload the run's last panel, which shows some validation and unlabelled images.
        space: Also write a folder that is ready to become a Gradio Space for the model.
        output_dir: Where that folder goes; by default FOLDER-space beside the folder.
        overwrite: Also replace files in it that this command did not write.
    """
    from prevmatch.share.hub import push as push_model
    from prevmatch.share.space import write_space

    place = output_dir or folder.resolve().with_name(f"{folder.resolve().name}-space")
    if space and "/" in repo_id:  # needs no upload; a name without its user is known only after one
        write_space(repo_id, place, license, overwrite=overwrite)
    more = ["--space"] * space + (["--output_dir", str(output_dir)] if output_dir else [])
    repo, address = push_model(folder, repo_id, private=private, license=license, samples=samples, more=more)
    print(address)
    if space:
        written = place if "/" in repo_id else write_space(repo, place, license, overwrite=overwrite)
        print(f"Space in {written}; upload it with: hf upload {repo}-space {written} --repo-type space")


def suggest(
    run: tyro.conf.Positional[Path],
    /,
    *,
    count: int = 10,
    limit: int = 1000,
    output_dir: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Choose unlabelled photos to label next, and write them with labels to correct for labelme, CVAT and COCO.

    Args:
        run: A run's output folder, or that of folds, with earlier versions.
        count: How many photos.
        limit: Look at no more photos than these, spread evenly over all by name; 0 looks at all.
        output_dir: Where they go; by default suggestions/ in the run's folder. Earlier suggestions there are replaced.
        overwrite: Also replace files in output_dir that this command did not write, or that were changed since.
    """
    from prevmatch.studies.suggest import suggest as choose

    folder = output_dir or run / "suggestions"
    chosen = choose(run, folder, count=count, limit=limit, overwrite=overwrite)
    for number, row in enumerate(chosen, start=1):
        print(printable(f"{number:>3} {row['image']}: {row['why']}"))
    print(f"photos with labels to correct in {folder}; see {folder / 'suggestions.html'}")


def curve(run: tyro.conf.Positional[Path], /) -> None:
    """Train the folds of a run again with a quarter and half of their masks, and say what more masks would bring.

    Args:
        run: The output folder of a run with --folds.
    """
    from prevmatch.studies.curve import curve as draw

    print("\n".join(draw(run)["told"]))


def report(run: tyro.conf.Positional[Path], /) -> None:
    """Draw the curves of a finished or interrupted run and write its report.html anew.

    Args:
        run: The run's output folder.
    """
    from prevmatch.share.report_page import write_report

    print(write_report(run))


def main() -> None:
    """Entry point of the `prevmatch` command."""
    if sys.argv[1:] == ["--version"]:
        print(f"prevmatch {__version__}")
        return
    commands: dict[str, Callable[..., Any]] = {
        "train": train, "check": check, "prepare": prepare, "evaluate": evaluate, "predict": predict, "push": push,
        "export": export, "convert": convert, "table": table, "compare": compare, "report": report,
        "suggest": suggest, "curve": curve,
    }  # fmt: skip
    if sys.argv[1:2] in (["train"], ["check"]):
        or_exit(lambda: require_known(sys.argv[2:]))
    or_exit(lambda: tyro.extras.subcommand_cli_from_dict(commands, use_underscores=True))
