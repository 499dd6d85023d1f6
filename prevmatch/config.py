"""Every setting of training, its data, prediction and tables of runs, with its meaning, default and check.

What a single command takes besides, such as where its output goes, stands in cli.py.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from prevmatch.errors import ConfigError

DatasetName = Literal["pascal", "cityscapes", "coco", "ade20k", "camvid", "shapes", "custom"]
MethodName = Literal["supervised", "fixmatch", "unimatch", "prevmatch"]
Weighting = Literal["pixelwise", "pixelratio", "pixelavg"]
ExportFormat = Literal["onnx", "torchscript", "torch_export"]
MapKind = Literal["ids", "colour_map", "overlay"]
Tracker = Literal["tensorboard", "wandb", "trackio"]

IGNORE_INDEX = 255
"""The class id of pixels that do not count."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """The architecture of a Segmenter and what is needed to use it; this is what `config.json` holds."""

    encoder: str
    """Name of any timm encoder with features at strides 4 and 16."""
    num_classes: int
    """Number of classes, without the ignored label 255."""
    decoder_channels: int = 256
    """Width of the ASPP branches and of the fusion convolutions."""
    low_level_channels: int = 48
    """Width to which the stride-4 feature is reduced."""
    atrous_rates: tuple[int, int, int] = (6, 12, 18)
    """Dilations of the three 3×3 ASPP branches."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per-channel mean of the training images, RGB, range [0, 1]."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per-channel standard deviation, likewise."""
    class_names: tuple[str, ...] = ()
    """One name per class, in the order of the ids; empty if unknown."""
    palette: tuple[tuple[int, int, int], ...] = ()
    """One RGB colour (0..255) per class; empty for the default palette."""
    eval_window: int | None = None
    """Side in pixels of the sliding evaluation window; None segments the whole image at once."""
    image_size: int | None = None
    """Long side in pixels that images are brought to before they are segmented; None takes them as they are."""

    def __post_init__(self) -> None:
        _check(isinstance(self.encoder, str), f"encoder is {self.encoder!r} but must be the name of a timm encoder")
        for name in ("num_classes", "decoder_channels", "low_level_channels"):
            value, most = getattr(self, name), 255 if name == "num_classes" else 16_384
            _check(isinstance(value, int) and 1 <= value <= most, f"{name} is {value} but must lie in 1..{most}")
        for name in ("mean", "std", "atrous_rates"):
            value = getattr(self, name)
            numbers = isinstance(value, tuple) and all(isinstance(v, int | float) and abs(v) < 1e6 for v in value)
            _check(numbers and len(value) == 3, f"{name} is {value!r} but must be three numbers")
        for name in ("eval_window", "image_size"):
            value = getattr(self, name)
            _check(
                value is None or (isinstance(value, int) and value >= 1), f"{name} is {value!r}, not a size or None"
            )
        for name in ("class_names", "palette"):
            _check(isinstance(getattr(self, name), tuple), f"{name} is {getattr(self, name)!r} but must be a list")
        for name in ("class_names", "palette"):
            given = len(getattr(self, name))
            _check(given in (0, self.num_classes), f"{name} has {given} entries but num_classes is {self.num_classes}")

    @property
    def id2label(self) -> dict[int, str]:
        """The name of each class id; `class_0` and so on where the names are unknown."""
        return dict(enumerate(self.class_names or (f"class_{i}" for i in range(self.num_classes))))

    @property
    def label2id(self) -> dict[str, int]:
        """The class id of each name."""
        return {name: label for label, name in self.id2label.items()}


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How a finished model segments images."""

    window: int | None = None
    """Side of a sliding window, 0 for whole images however large; None leaves it to the model: whole images, or in
    windows if it was evaluated so. Whole images of more than 8 million pixels are then cut into overlapping tiles."""
    size: int | None = None
    """Enlarge images so that the long side reaches this many pixels, never shrink them; None leaves it to the
    model."""
    flip: bool = False
    """Average the class probabilities of the image and its mirror image."""
    scales: tuple[float, ...] = (1.0,)
    """Average the class probabilities over these scales of the image."""
    batch_size: int = 8
    """Images of equal size that are segmented together, fewer if they are large."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size")
        _check(self.window is None or self.window >= 0, f"window is {self.window} but must be at least 0")
        _check(self.size is None or self.size >= 1, f"size is {self.size} but must be at least 1")
        _check(
            bool(self.scales) and all(0 < scale <= 8 for scale in self.scales),
            f"scales is {self.scales} but must be numbers between 0 and 8, such as 0.5 1 1.5",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data there is, and which of it counts as labelled."""

    dataset: DatasetName | None = None
    """Which source to train on; None when the data is handed to `train` directly."""
    data_dir: Path | None = None
    """Folder of the data set, raw or written by `prevmatch prepare`; `shapes` needs none."""
    dataset_name: str | None = None
    """A data set on the Hub, or a folder that `datasets` loads, instead of data_dir."""
    image_column: str = "image"
    """Column of the images in dataset_name."""
    mask_column: str = "mask"
    """Column of the masks in dataset_name."""
    mask_colours: str | None = None
    """What the colours of RGB masks mean: voc, cityscapes, or a file with a line `name: r, g, b` per class."""
    split: str | None = None
    """Which images are labelled: a published list (92, 1_16, priority_1_8, a folder in splits_dir), `1_N` for every
    N-th name where no lists are published, or None for every image that has a mask."""
    splits_dir: str | None = None
    """Folder with lists laid out as the published ones, or the address of a mirror of them."""
    labelled: str | None = None
    """Draw the labelled images instead of using a split: a number (100) or a share (5%) of those that have a mask,
    such that every class occurs if possible."""
    split_seed: int = 0
    """Seed of that draw and of the validation images held out; `seed` leaves them as they are."""
    max_image_pixels: int = 178_956_970
    """Larger image files are refused as decompression bombs (Pillow's limit); raise it for images that are yours."""
    val_share: float = 0.2
    """Share of the labelled images held out for validation where custom data has no validation part."""

    def __post_init__(self) -> None:
        _check(0 < self.val_share < 1, f"val_share is {self.val_share} but must lie between 0 and 1")
        _at_least(self, 0, "split_seed")
        _at_least(self, 1, "max_image_pixels")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig):
    """All settings of a training run; a recipe is an instance of this class."""

    # ---- training images
    image_size: int | None = None
    """Resize every image and mask so that the long side has this many pixels; None keeps the files' size, 0 brings
    images that are mostly longer than 1536 to 1024. The model remembers it."""
    crop_size: int = 321
    """Side of the square training crops in pixels; 0 fits it to the images."""
    scale_range: tuple[float, float] = (0.5, 2.0)
    """The long side is scaled to an integer drawn uniformly from this range times its length."""
    epoch_images: int = 0
    """Unlabelled images in an epoch; 0 takes each once. Fewer ones are repeated, of more a random part is taken."""
    num_workers: int = 4
    """Loader processes per training process."""

    # ---- method
    method: MethodName = "prevmatch"
    """How the unlabelled images are used."""
    previous_guidance: bool = False
    """Add guidance by previous models to the method (prevmatch is unimatch with this switched on)."""
    partner: Literal["independent", "batch"] = "independent"
    """The image that CutMix pastes into another: a further draw of the unlabelled ones (as published), or the one
    before it in the batch (as in UniMatch V2), which is faster."""
    confidence_threshold: float = 0.95
    """The student's own pseudo-labels count from this confidence on (τ)."""
    previous_threshold: float = 0.9
    """The previous models' pseudo-labels count from this confidence on (τ_prev)."""
    previous_weighting: Weighting = "pixelwise"
    """How confidence weighs the previous guidance."""
    bank_capacity: int = 8
    """How many previous models are kept (N)."""
    bank_policy: Literal["best", "interval"] = "interval"
    """When the network joins the bank: after a new best validation mIoU (as published, this follows validation
    labels), or every `bank_interval` epochs."""
    bank_interval: int = 1
    """Epochs between joins under the policy `interval`; 0 makes 25 joins in a run."""
    bank_start_epoch: int = 0
    """No network joins before this epoch (base_only_epoch)."""
    ensemble_size: int = 3
    """At most so many previous models are drawn for a step (K)."""
    random_ensemble_size: bool = True
    """Draw the number of models from 1..K; otherwise always K."""
    guide_precision: Literal["training", "bf16"] = "training"
    """What pseudo-labels are computed in: as training, or bf16, which is faster for training in fp32."""

    # ---- network
    encoder: str = "resnet50s"
    """Any timm encoder with features at strides 4 and 16."""
    encoder_weights: str = "timm"
    """`timm` for the pretrained weights from the Hub, `none` for random ones, or a file with timm's names."""
    decoder_channels: int = SegmenterConfig.decoder_channels
    """Width of the ASPP branches and fusion convolutions."""
    low_level_channels: int = SegmenterConfig.low_level_channels
    """Width to which the stride-4 feature is reduced."""
    atrous_rates: tuple[int, int, int] = SegmenterConfig.atrous_rates
    """Dilations of the ASPP branches."""

    # ---- optimisation
    epochs: int = 80
    """One epoch is one pass over the unlabelled images, or over epoch_images of them; 0 fits both to their number."""
    batch_size: int = 8
    """Labelled images per process and step; as many unlabelled ones come on top."""
    total_batch_size: int | None = None
    """Labelled images per optimiser step, over all processes, that the settings were chosen for; a run that differs
    says so."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step."""
    lr: float = 0.001
    """Base learning rate of the encoder; 0 fits it to the length of the schedule."""
    decoder_lr_multiplier: float = 10.0
    """The decoder's learning rate is lr times this."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-4
    """Weight decay of SGD, on every parameter."""
    supervised_loss: Literal["ce", "ohem"] = "ce"
    """Loss of the labelled images: cross-entropy, or the same over hard examples."""
    ohem_threshold: float = 0.7
    """Pixels whose true class is less probable than this are hard."""
    ohem_min_kept: int = 200_000
    """At least so many pixels of a batch are kept."""
    seed: int = 0
    """Everything random follows from it."""

    # ---- evaluation and records
    eval_every: int = 1
    """Evaluate every so many epochs; the last epoch always is."""
    eval_window: int | None = None
    """Side of the sliding evaluation window; None evaluates whole images."""
    output_dir: Path = Path("outputs/run")
    """Where the run writes config.json, metrics.jsonl, result.json, best/ and checkpoints/."""
    overwrite_output_dir: bool = False
    """Replace an earlier run in output_dir instead of refusing."""
    resume: bool = False
    """Go on from the newest whole checkpoint in output_dir, bit by bit on a CPU; start anew where there is none."""
    checkpointing_steps: int | None = None
    """Optimiser steps between checkpoints; None makes one after every evaluation."""
    save_total_limit: int = 2
    """How many checkpoints are kept; with two, one is whole whatever happens to the other."""
    max_hours: float | None = None
    """Stop in order after so many hours, with a checkpoint and exit status 75; 0.5 is half an hour."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do at a loss or gradient that is not finite: stop the run, or leave the step out; looking before every
    step, as `skip` does, makes the host wait for the device."""
    nonfinite_limit: int = 10
    """Most steps that `skip` leaves out in a run."""
    logging_steps: int = 20
    """Steps between lines of metrics.jsonl."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers that receive the metrics and panels."""
    panel_every: int = 5
    """Draw a panel of predictions and pseudo-labels every so many epochs and after the last one; 0 never."""
    push_to_hub: bool = False
    """Upload the best model with its card to the Hub after training."""
    hub_model_id: str | None = None
    """Where to: a Hub repository (user/name); None takes the name of output_dir."""
    hub_private: bool = False
    """Make that repository private if it is new."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(
            self, 1, "bank_capacity", "ensemble_size", "gradient_accumulation_steps", "eval_every", "logging_steps",
            "save_total_limit", "decoder_channels", "low_level_channels",
        )  # fmt: skip
        _at_least(self, 2, "batch_size")  # BatchNorm over pooled features needs two values
        _at_least(
            self, 0, "crop_size", "epoch_images", "num_workers", "bank_interval", "bank_start_epoch", "epochs", "lr",
            "momentum", "weight_decay", "ohem_min_kept", "seed", "nonfinite_limit", "panel_every",
        )  # fmt: skip
        for name in ("confidence_threshold", "previous_threshold", "ohem_threshold"):
            _check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)} but must lie in [0, 1]")
        _check(self.decoder_lr_multiplier > 0, "decoder_lr_multiplier must be positive")
        smallest, largest = self.scale_range
        _check(
            0 < smallest <= largest, f"scale_range is {self.scale_range} but must be (low, high) with 0 < low <= high"
        )
        _check(self.max_hours is None or self.max_hours > 0, f"max_hours is {self.max_hours} but must be positive")
        for name in ("image_size", "eval_window", "checkpointing_steps"):
            value = getattr(self, name)
            low = 0 if name == "image_size" else 1
            _check(value is None or value >= low, f"{name} is {value} but must be at least {low}, or None")

    def to_json(self) -> dict:
        """All settings as plain JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The settings that `to_json` wrote; raises ConfigError for unknown ones."""
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        _check(not unknown, f"unknown settings: {', '.join(sorted(unknown))}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            paths = {k: Path(values[k]) for k in ("data_dir", "output_dir") if values.get(k) is not None}
            return cls(**values | paths)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"settings of a wrong kind ({error}); is config.json damaged?") from error


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which runs make a table: methods × encoders × splits × seeds of one recipe."""

    recipe: Path
    """The recipe's file; its name says which published table belongs to it."""
    methods: tuple[MethodName, ...] = ("supervised", "unimatch", "prevmatch")
    """Methods to compare."""
    encoders: tuple[str, ...] = ()
    """timm encoders; none means those of the published table, or else the recipe's own."""
    splits: tuple[str, ...] = ()
    """Splits; none means those of the published table, or else the recipe's own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A run for each; the table shows mean and standard deviation."""
    data_dir: Path | None = None
    """Folder of the data set."""
    args: str = ""
    """More arguments for the recipe, the same for all runs."""
    launch: str = ""
    """Arguments for `accelerate launch`."""
    results_dir: Path = Path("results")
    """Where the runs and the tables go."""


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _at_least(config: object, minimum: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _check(value >= minimum, f"{name} is {value} but must be at least {minimum}")
