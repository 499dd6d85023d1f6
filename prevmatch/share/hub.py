"""Publishing a model on the Hub: its files, a card with what is known about it, and a Space to try it in."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, EvalResult, HfApi, ModelCard, ModelCardData, get_token
from huggingface_hub.utils import validate_repo_id

from prevmatch.config import TrainConfig, material
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.encoder import weights_source
from prevmatch.models.saved import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE
from prevmatch.share.curves import draw_curves
from prevmatch.share.pages import TEMPLATES
from prevmatch.share.report_page import Run, class_names, facts, read_json, read_run

CURVES = {"miou": "mIoU over the epochs", "class_iou": "IoU of each class over the epochs", "loss": "loss terms",
          "mask_ratio": "share of pixels whose pseudo-label counts"}  # fmt: skip
PUBLIC_DATA = ("pascal", "cityscapes", "coco", "ade20k", "camvid")
"""Data sets that others know by these names."""
DECODERS = {"deeplab": "DeepLabV3+", "dpt": "DPT", "linear": "a linear map"}


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What goes to the Hub: a model folder, and the run that it came from, if known."""

    model: Path
    run: Run | None
    curves: tuple[Path, ...] = ()
    samples: Path | None = None
    """The run's last panel."""

    @property
    def pictures(self) -> dict[str, Path]:
        """Every picture by its path in the repository."""
        named = {f"pictures/{path.name}": path for path in self.curves}
        return named | ({f"pictures/samples{self.samples.suffix}": self.samples} if self.samples else {})


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    samples: bool = True,
    more: Sequence[str] = (),
) -> tuple[str, str]:
    """Upload a run's best model, or a model folder, as one commit to the Hub; returns (repository id, address).

    The repository is created if needed (`private` holds only then); pushing again updates everything, the card too.
    `samples` uploads the run's last panel, which shows some of its images. Nothing local is changed. `more` are flags
    of the command for an advice to run it again.
    Raises CheckpointError if the folder holds no model or the upload fails.
    """
    upload = collect(folder, samples=samples)
    flags = [*["--private"] * private, *["--no_samples"] * (not samples), *(["--license", license] if license else [])]
    retry = shlex.join(["prevmatch", "push", str(folder), repo_id, *flags, *more])
    try:
        return send(upload, repo_id, private=private, license=license)
    except Exception as error:  # the client raises errors of many families
        raise CheckpointError(
            f"{folder} could not be uploaded to {repo_id!r} ({first_line(error)}); nothing is lost here. Log in with "
            f"`hf auth login` if need be, then run: {retry}"
        ) from error


def send(
    upload: Upload,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    token: str | None = None,
    keep_card: bool = False,
) -> tuple[str, str]:
    """Upload as one commit; returns (repository id, address). Raises whatever the Hub's client raises.

    `keep_card` leaves a card alone that is there already.
    """
    api = HfApi(token=token)
    url = api.create_repo(repo_id, private=private or None, exist_ok=True)
    paths = (upload.model / name for name in (WEIGHTS_FILE, CONFIG_FILE, PREPROCESSOR_FILE))
    files = {path.name: path for path in paths if path.is_file()}
    operations = [CommitOperationAdd(name, str(path)) for name, path in (files | upload.pictures).items()]
    if not (keep_card and api.file_exists(url.repo_id, "README.md")):
        card = model_card(upload, url.repo_id, license=license)
        operations.append(CommitOperationAdd("README.md", str(card).encode()))
    api.create_commit(url.repo_id, operations, commit_message="Upload model and card")
    return url.repo_id, str(url)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def check_can_push(config: TrainConfig) -> None:
    """Raise ConfigError before training starts if an upload is wanted that cannot succeed."""
    if not config.push_to_hub:
        return
    try:
        validate_repo_id(repo_id_of(config))
    except ValueError as error:
        raise ConfigError(f"hub_model_id {repo_id_of(config)!r} is no repository name ({error})") from error
    if get_token() is None:
        raise ConfigError("push_to_hub needs a login; run `hf auth login` or set HF_TOKEN, or train without it")


def repo_id_of(config: TrainConfig) -> str:
    """The repository that a run is pushed to."""
    return config.hub_model_id or config.output_dir.resolve().name


def collect(folder: Path, *, samples: bool = True) -> Upload:
    """Find the model and its run: `folder` is a run's output folder, its `best`, or any model folder.

    Raises CheckpointError if there is no model.
    """
    of_run = folder.parent if folder.name == "best" else folder
    model = folder / "best" if (folder / "best").is_dir() else folder
    missing = [name for name in (WEIGHTS_FILE, CONFIG_FILE) if not (model / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} holds no model ({model / missing[0]} is missing); name a run or model folder")
    if not {"encoder", "num_classes"} <= read_json(model / CONFIG_FILE).keys():
        raise CheckpointError(f"{model / CONFIG_FILE} is not the configuration of a prevmatch Segmenter")
    if not (of_run / "metrics.jsonl").is_file():
        return Upload(model=model, run=None)
    run = read_run(of_run)
    if not (of_run / "curves").is_dir():  # of an interrupted run
        draw_curves(of_run, run.class_names)
    curves = [of_run / "curves" / f"{name}.png" for name in CURVES]
    panels = sorted((of_run / "panels").glob("epoch_*.png"))
    return Upload(
        model=model,
        run=run,
        curves=tuple(path for path in curves if path.is_file()),
        samples=panels[-1] if panels and samples else None,
    )


def model_card(upload: Upload, repo_id: str, *, license: str | None = None) -> ModelCard:
    """The card of a model: with everything its finished run tells, or an honest shorter one."""
    config = read_json(upload.model / CONFIG_FILE)
    run = upload.run if upload.run and upload.run.finished else None
    names = class_names(config)
    values = {
        "name": repo_id.rpartition("/")[2],
        "repo_id": repo_id,
        "encoder": config["encoder"],
        "decoder": DECODERS[config.get("decoder_kind", "deeplab")],  # the only one that earlier versions had
        "class_count": config["num_classes"],
        "class_list": ", ".join(f"{i} {_escaped(name)}" for i, name in enumerate(names))
        or "Their names are not known.",
        "interrupted": upload.run,
        "run": run,
        "licence": license,
        "weights": _weights(run) if run else None,
        "curves": {CURVES[path.stem]: f"pictures/{path.name}" for path in upload.curves},
        "samples": next((path for path, file in upload.pictures.items() if file == upload.samples), None),
    }
    if run:
        settings = {k: _anonymous(v) for k, v in material(run.settings).items()}
        told = {k: _anonymous(v) for k, v in facts(run).items()}
        window, side = config.get("eval_window"), config.get("image_size")
        values |= {
            "method": told["method"],
            "data": told["data"],
            "training": {key: _cell(value) for key, value in told.items()},
            "settings": {key: _cell(value) for key, value in settings.items()},
            "command": shortened(run.result.get("command", "")),
            "classes": {_escaped(name): iou for name, iou in run.class_iou.items()},
            "protocol": (f"sliding window of {window} pixels" if window else "whole images")
            + (f", long side {side} pixels" if side else ""),
        }
    import jinja2

    template = jinja2.Template((TEMPLATES / "model_card.md").read_text(), trim_blocks=True, lstrip_blocks=True)
    return ModelCard(template.render(card_data=card_data(upload, repo_id, license).to_yaml(), **values))


def card_data(upload: Upload, repo_id: str, license: str | None) -> ModelCardData:
    """The metadata that the Hub reads: library, task, licence, base model, data and, of a finished run, the score."""
    run = upload.run if upload.run and upload.run.finished else None
    tags = ["semantic-segmentation", "semi-supervised-learning", "prevmatch", "arxiv:2405.20610"]
    data = ModelCardData(
        library_name="prevmatch", pipeline_tag="image-segmentation", license=license or "unknown", tags=tags
    )
    if run is None:
        return data
    settings = run.settings
    known = str(_anonymous(settings.get("dataset_name") or settings.get("dataset") or "own data"))
    on_hub = settings.get("dataset_name") and not Path(settings["dataset_name"]).exists()
    data.datasets = [known] if known in PUBLIC_DATA or on_hub else None
    data.base_model = (_weights(run) or (None,))[0]
    data.metrics = ["mean_iou"]
    data.model_name = repo_id.rpartition("/")[2]
    data.eval_results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Semantic segmentation",
            dataset_type=known if data.datasets else "custom",
            dataset_name=known,
            dataset_split="validation",
            metric_type="mean_iou",
            metric_name=f"mean IoU over {_counted(run)}, % ({_chosen(run)})",
            metric_value=round(run.result["best_miou"], 2),
        )
    ]
    return data


def _counted(run: Run) -> str:
    """Which classes the mIoU of a run is the mean of."""
    counting = sum(iou is not None for iou in run.class_iou.values())
    total = len(run.class_iou)
    return "all classes" if counting == total else f"the {counting} of {total} classes that occur"


def _chosen(run: Run) -> str:
    """Whether the score flatters."""
    folds = run.settings.get("folds")
    return f"{folds} folds, each image unseen" if folds else "best epoch, chosen on the same images"


def _weights(run: Run) -> tuple[str, str] | None:
    """Hub repository and licence of the pretrained weights that the encoder of a run began from, if it is known."""
    settings = run.settings
    return weights_source(settings["encoder"]) if settings["encoder_weights"] == "timm" else None


def shortened(command: str) -> str:
    """A command line whose absolute paths are cut to their last part: the folders of one machine help nobody."""
    words = [word.partition("=") for word in shlex.split(command)]
    return shlex.join(f"{_anonymous(flag)}{equals}{_anonymous(value)}" for flag, equals, value in words)


def _anonymous(value: Any) -> Any:
    """An absolute path cut to its last part; anything else as it is."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _cell(value: object) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(name: str) -> str:
    """A class name as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(name.split()))
