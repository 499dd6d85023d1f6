"""Every setting of models, data and runs, with its meaning, default and check.

On the command line they are one flat list. In code they are parts, so that a function can ask for the part that it
reads; a `TrainConfig` is all of them. Arguments of single commands stand in `cli.py`.
"""

import dataclasses
import math
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from prevmatch.errors import ConfigError

DatasetName = Literal["pascal", "cityscapes", "coco", "ade20k", "camvid", "shapes", "custom"]
MethodName = Literal[
    "supervised", "fixmatch", "unimatch", "prevmatch", "mean_teacher", "augseg", "dual_teacher", "unimatch_v2", "cps",
    "co_training", "semivl",
]  # fmt: skip
Partner = Literal["independent", "batch", "reversed", "labelled"]
DecoderKind = Literal["auto", "deeplab", "dpt", "linear"]
Weighting = Literal["pixelwise", "pixelratio", "pixelavg"]
ExportFormat = Literal["onnx", "torchscript", "torch_export"]
MapKind = Literal["ids", "colour_map", "overlay"]
Tracker = Literal["tensorboard", "wandb", "trackio"]

IGNORE_INDEX = 255
"""The class id of pixels that do not count."""

ALL = "all"
"""The split in which every image that has a mask is labelled."""

ENCODERS = {
    "dinov2_small": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_base": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_large": "vit_large_patch14_dinov2.lvd142m",
}
"""Short names of encoders, and timm's."""

LONGEST_SIDE = 16_384
"""Of the images and windows that a model asks for."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Part:
    """A part of the settings; each checks its own, and passes on to the next part."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(Part):
    """Which decoder, and the widths of DeepLabV3+."""

    decoder_kind: DecoderKind = "auto"
    """DeepLabV3+ (`deeplab`), DPT for a plain ViT, whose width follows the encoder's (`dpt`), or a linear map of the
    deepest feature (`linear`); `auto` is DPT for a plain ViT and DeepLabV3+ for any other encoder."""
    decoder_channels: int = 256
    """Width of DeepLabV3+'s ASPP branches and fusion convolutions; in training 0 is 256, and 64 without a GPU."""
    low_level_channels: int = 48
    """Width to which DeepLabV3+ reduces the stride-4 feature."""
    atrous_rates: tuple[int, int, int] = (6, 12, 18)
    """Dilations of DeepLabV3+'s three 3×3 ASPP branches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = get_args(DecoderKind)
        _check(self.decoder_kind in kinds, f"decoder_kind is {self.decoder_kind!r} but must be of {', '.join(kinds)}")
        for name, lowest in {"decoder_channels": 0, "low_level_channels": 1}.items():
            value = getattr(self, name)
            _check(_whole(value, lowest, 4096), f"{name} is {value!r} but must lie in {lowest}..4096")
        rates = self.atrous_rates
        _check(
            isinstance(rates, tuple) and len(rates) == 3 and all(_whole(rate, 1, 1024) for rate in rates),
            f"atrous_rates is {rates!r} but must be three whole numbers in 1..1024",
        )


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(DecoderConfig):
    """The architecture of a Segmenter and what is needed to use it; this is what `config.json` holds."""

    encoder: str
    """Name of any timm encoder with features at strides 4 and 16, or of any plain ViT."""
    num_classes: int
    """Number of classes, without the ignored label 255."""
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
    image_bits: int | None = None
    """Bits that 16-bit files of training images use, from which all are stretched; None finds them image by image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(isinstance(self.encoder, str), f"encoder is {self.encoder!r} but must be the name of a timm encoder")
        _check(self.decoder_channels > 0, f"decoder_channels is {self.decoder_channels} but must lie in 1..4096")
        count = self.num_classes
        _check(_whole(count, 1, 255), f"num_classes is {count!r} but must lie in 1..255")
        for name in ("mean", "std"):
            value = getattr(self, name)
            _check(_three_numbers(value), f"{name} is {value!r} but must be three numbers")
        _check(min(self.std) > 0, f"std is {self.std!r} but must be three numbers above 0")
        for name in ("eval_window", "image_size"):
            value = getattr(self, name)
            _check(
                value is None or _whole(value, 1, LONGEST_SIDE),
                f"{name} is {value!r} but must be None or lie in 1..{LONGEST_SIDE}",
            )
        bits = self.image_bits
        _check(bits in (None, 10, 12, 14, 16), f"image_bits is {bits!r} but must be None, 10, 12, 14 or 16")
        for name in ("class_names", "palette"):
            _check(isinstance(getattr(self, name), tuple), f"{name} is {getattr(self, name)!r} but must be a list")
        for name in ("class_names", "palette"):
            given = len(getattr(self, name))
            _check(given in (0, count), f"{name} has {given} entries but num_classes is {count}")
        for value in self.class_names:
            _check(isinstance(value, str), f"class_names holds {value!r} but must be a list of names")
        for colour in self.palette:
            _check(
                isinstance(colour, tuple) and len(colour) == 3 and all(_whole(c, 0, 255) for c in colour),
                f"palette holds {colour!r} but must be a list of colours of three whole numbers in 0..255",
            )

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
class PlaceConfig(Part):
    """Where the data lies; the same data may lie elsewhere."""

    data_dir: Path | None = None
    """Folder of the data set, raw or written by `prevmatch prepare`; `shapes` needs none."""
    dataset_name: str | None = None
    """A data set on the Hub, or a folder that `datasets` loads, instead of data_dir."""
    splits_dir: str | None = None
    """Folder with lists laid out as the published ones, or the address of a mirror of them."""
    max_image_pixels: int = 178_956_970
    """Larger image files are refused as decompression bombs (Pillow's limit); raise it for images that are yours."""

    unreadable_share: float = 0.05
    """Unlabelled photos of custom data that cannot be read are left out, at most this share of them."""
    strict: bool = False
    """Refuse custom data with any photo that cannot be read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "max_image_pixels")
        _share(self, "unreadable_share")


@dataclass(frozen=True, kw_only=True)
class DataConfig(PlaceConfig):
    """Which data there is, and which of it counts as labelled."""

    dataset: DatasetName | None = None
    """Which source to train on; None when the data is handed to `train` directly."""
    image_column: str = "image"
    """Column of the images in dataset_name."""
    mask_column: str = "mask"
    """Column of the masks in dataset_name."""
    mask_colours: str | None = None
    """What the colours of RGB masks mean: voc, cityscapes, a file with a line `name: r, g, b` per class, or `found`,
    which makes a class of each colour in the masks of custom data."""
    mask_tolerance: int = 0
    """A colour that is no class's is the nearest one's if no channel differs by more; then masks may be JPEG."""
    mask_threshold: int | None = None
    """Grey masks are two classes: values from this one on are the foreground (128 for soft edges); None: ids."""
    mask_255: Literal["auto", "ignored"] = "auto"
    """What 255 means in grey masks that hold nothing else but 0: the foreground if all do so, or pixels to ignore."""
    mask_path: str | None = None
    """Where the mask of a photo of custom data lies: {folder} is the photo's folder below data_dir, {stem} its name
    without suffix, as in `{folder}/{stem}_mask.png`."""
    merge_classes: tuple[str, ...] = ()
    """Classes of custom data that become one, such as `car,truck=vehicle`."""
    ignore_classes: tuple[str, ...] = ()
    """Classes of custom data whose pixels do not count, such as `unlabelled`, or `class_0` for the value 0."""
    allow_absent_classes: bool = False
    """Train although some class of the list has no pixel in any mask."""
    train_parts: tuple[str, ...] = ()
    """Parts of custom data to train on besides those called train; test and validation parts never are unasked."""
    val_part: str | None = None
    """The part of custom data to validate on (such as test); None takes val, valid or validation."""
    split: str | None = None
    """Which images are labelled: a published list (92, 1_16, priority_1_8, a folder in splits_dir), `1_N` for every
    N-th name where no lists are published, or `all` (or None) for every image that has a mask."""
    labelled: str | None = None
    """Draw the labelled images instead of using a split: a number (100) or a share (5%) of those that have a mask,
    such that every class occurs if possible."""
    split_seed: int = 0
    """Seed of that draw and of the validation images held out; `seed` leaves them as they are."""
    val_share: float = 0.2
    """Share of the labelled images held out for validation where custom data has no validation part."""
    folds: int = 0
    """Divide the masks of custom data into so many folds (5), train a network for each that never sees it, score each
    mask once, then train the final model on all masks; 0 holds a single part out."""
    fold: int | None = None
    """Only this one of the folds, from 1 on; 0 is the final model, which takes what the folds found. None does all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 0, "mask_tolerance")
        _at_least(self, 1, "mask_threshold", or_none=True)
        _check(self.mask_255 in ("auto", "ignored"), f"mask_255 is {self.mask_255!r} but must be auto or ignored")
        _check(0 < self.val_share < 1, f"val_share is {self.val_share} but must lie between 0 and 1")
        _at_least(self, 0, "split_seed", "folds")
        _check(self.folds != 1, "folds is 1 but must be at least 2, or 0 for none")
        _check(
            self.fold is None or 0 <= self.fold <= self.folds != 0,
            f"fold is {self.fold} but must lie in 0..folds, and folds is {self.folds}",
        )


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Part):
    """How training images are cut from the data."""

    image_size: int | None = None
    """Resize every image and mask so that the long side has this many pixels; None keeps the files' size, 0 brings
    images that are mostly longer than 1536 to 1024; without a GPU those longer than 384 to 384, if crop_size is open
    too. The model remembers it."""
    crop_size: int = 321
    """Side of the square training crops in pixels, over a plain ViT a multiple of its patch; 0 fits it to the data."""
    scale_range: tuple[float, float] = (0.5, 2.0)
    """The long side is scaled to an integer drawn uniformly from this range times its length."""
    epoch_images: int = 0
    """Unlabelled images in an epoch (labelled ones where all are); 0 takes each once. Fewer ones are repeated, of more
    a random part is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 0, "crop_size", "epoch_images")
        _at_least(self, 0, "image_size", or_none=True)
        low, high = self.scale_range
        _check(0 < low <= high, f"scale_range is {self.scale_range} but must be (low, high) with 0 < low <= high")


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(Part):
    """Who labels the unlabelled images, and what counts of it."""

    method: MethodName = "prevmatch"
    """How the unlabelled images are used."""
    previous_guidance: bool = False
    """Add guidance by previous models to the method (prevmatch is unimatch with this switched on)."""
    partner: Partner | None = None
    """The image that CutMix pastes into another: a further draw of the unlabelled ones (`independent`), the one before
    it in the `batch` or the batch in `reversed` order, both faster, or a `labelled` one with its mask; None is what
    the method has: reversed for unimatch_v2, batch for dual_teacher, else independent. augseg always pastes labelled
    ones."""
    confidence_threshold: float = 0.95
    """The student's own pseudo-labels, or those of its EMA teacher, count from this confidence on (τ)."""
    previous_threshold: float = 0.9
    """The previous models' pseudo-labels count from this confidence on (τ_prev)."""
    threshold_kind: Literal["fixed", "classwise"] = "fixed"
    """One threshold for all classes, or one that is lower for classes that the student knows less well, as measured on
    the labelled images (the confidence bank of AEL)."""
    threshold_floor: float = 0.7
    """No threshold of a class falls below this."""
    class_confidence_momentum: float = 0.99
    """Momentum of that measurement, per step."""
    ema_decay: float | None = None
    """Cap of the decay of a moving average of the student, which then labels in its place (an EMA teacher); None: only
    mean_teacher (0.99, which spans 100 steps), dual_teacher (0.99, anew each epoch), unimatch_v2 (0.996) and augseg
    (0.999) have one."""
    peer_weight: float = 1.0
    """Weight of what the other students say, in cps and co_training; in cps 1 on Pascal and 5 on Cityscapes, as
    published."""
    co_encoders: tuple[str, ...] = ()
    """Encoders of the other students of co_training, one or two, all different; none is resnet50.dct. The one of
    `encoder` is scored and kept, settings of the optimiser are the same for all."""
    co_encoder_weights: tuple[str, ...] = ()
    """Their weights, each as `encoder_weights`; none is `none` where that is, and else `timm`."""
    outside_model: str | None = None
    """A frozen model that guides too, in any method: a CLIP of transformers, folder or Hub repository, or a Segmenter
    of the same classes. None is openai/clip-vit-base-patch16 in semivl (needs the extra `transformers`)."""
    outside_texts: str | None = None
    """For a CLIP: a file with a line per class, texts that mean it separated by commas; None takes the names."""
    outside_weight: float = 0.1
    """Weight of that guide at first; it falls to 0 over the run (λ of SemiVL)."""
    outside_threshold: float = 0.9
    """Its pseudo-labels count from this confidence on."""
    previous_weighting: Weighting = "pixelwise"
    """How confidence weighs the previous guidance."""
    previous_ensemble: Literal["logits", "weights"] = "logits"
    """What is averaged of the previous models drawn: their answers (as published), or the models themselves, which
    then answer once."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "bank_capacity", "ensemble_size")
        _at_least(self, 0, "bank_interval", "bank_start_epoch", "peer_weight", "outside_weight")
        count = len(self.co_encoders)
        _check(count <= 2, f"co_encoders are {count} but co_training has at most three students; name one or two")
        weights = len(self.co_encoder_weights)
        _check(
            weights in (0, count),
            f"co_encoder_weights are {weights} but co_encoders {count}; name one of each, or leave them to timm",
        )
        _share(self, "confidence_threshold", "previous_threshold", "threshold_floor", "outside_threshold")
        for name in ("ema_decay", "class_confidence_momentum"):
            value = getattr(self, name)
            _check(value is None or 0 <= value < 1, f"{name} is {value} but must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(DecoderConfig):
    """What is trained."""

    encoder: str = "resnet50s"
    """Any timm encoder with features at strides 4 and 16, or any plain ViT; dinov2_small, dinov2_base and dinov2_large
    are short for timm's names, and bring UniMatch V2's settings in the recipes of its data sets; resnet50.dct and
    resnet101.dct read cosine coefficients; `auto` is dinov2_small on a GPU and mobilenetv2_100 on a CPU."""
    encoder_weights: str = "timm"
    """`timm` for the pretrained weights from the Hub, `none` for random ones, or a file with timm's names."""
    freeze_encoder: bool = False
    """Train the decoder alone; the encoder stays as its weights are."""
    gradient_checkpointing: bool = False
    """Compute the encoder's blocks twice instead of keeping their values: less memory, about a third more time. A
    frozen encoder keeps none anyway."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig(Part):
    """How long and how it is trained."""

    epochs: int = 80
    """One epoch is one pass over the unlabelled images (over the labelled ones where all are), or over epoch_images of
    them; 0 fits both to their number."""
    steps: int = 0
    """Optimiser steps of the whole run, up to the next whole epoch, instead of epochs; 0 leaves it to these."""
    batch_size: int = 8
    """Labelled images per process and step; as many unlabelled ones come on top."""
    total_batch_size: int | None = None
    """Labelled images per optimiser step, over all processes, that the settings were chosen for; a run that differs
    says so."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum (as published), or AdamW, which short schedules profit from."""
    lr: float = 0.001
    """Base learning rate of the encoder; 0 fits it to encoder, optimiser and length of the schedule."""
    decoder_lr_multiplier: float = 10.0
    """The decoder's learning rate is lr times this; 0 is 40 for a plain ViT (UniMatch V2) and 10 for any other."""
    lr_schedule: Literal["poly", "cosine"] = "poly"
    """How the learning rate falls to 0: by the published polynomial of power 0.9, or along half a cosine."""
    warmup_steps: int = 0
    """Optimiser steps over which the learning rate rises from 0."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float | None = 1e-4
    """Weight decay of every parameter; None is 0.01 for AdamW and 0.0001 for SGD."""
    supervised_loss: Literal["ce", "ohem"] = "ce"
    """Loss of the labelled images: cross-entropy, or the same over hard examples."""
    class_weights: Literal["equal", "inverse_log"] = "equal"
    """How the classes weigh in that loss: alike, or the rarer the more, by 1 / ln(1.1 + share of the labelled
    pixels) (after ENet)."""
    ohem_threshold: float = 0.7
    """Pixels whose true class is less probable than this are hard."""
    ohem_min_kept: int = 200_000
    """At least so many pixels of a batch are kept."""
    seed: int = 0
    """Everything random follows from it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = ("sgd", "adamw")
        _check(self.optimizer in kinds, f"optimizer is {self.optimizer!r} but must be of {', '.join(kinds)}")
        _at_least(self, 1, "gradient_accumulation_steps")
        _at_least(self, 2, "batch_size")  # BatchNorm over pooled features needs two values
        _at_least(
            self, 0, "epochs", "steps", "lr", "decoder_lr_multiplier", "warmup_steps", "momentum", "ohem_min_kept",
            "seed",
        )  # fmt: skip
        _at_least(self, 0, "weight_decay", or_none=True)
        _share(self, "ohem_threshold")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Part):
    """What is scored, when, and how; the best of it is kept."""

    score: Literal["student", "ema"] | None = None
    """What is scored, and kept in best/: the network that trains, or a moving average of it, whose decay is ema_decay;
    None is what the method's published scores are of: ema for unimatch_v2 and augseg, else student."""
    eval_every: int = 1
    """Evaluate every so many epochs; the last epoch always is."""
    eval_window: int | None = None
    """Side of the sliding evaluation window; None evaluates whole images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "eval_every")
        _at_least(self, 1, "eval_window", or_none=True)


@dataclass(frozen=True, kw_only=True)
class RunConfig(Part):
    """Where a run goes, what it tells and how it survives; nothing here bears on what is learned."""

    output_dir: Path = Path("outputs/run")
    """Where the run writes config.json, metrics.jsonl, result.json, best/ and checkpoints/."""
    plan: str | None = None
    """A plan.json of `prevmatch check`, edited or not: its settings hold where the command line names no other."""
    overwrite_output_dir: bool = False
    """Replace an earlier run in output_dir instead of refusing."""
    resume: bool = False
    """Go on from the newest whole checkpoint in output_dir, bit by bit on a CPU; start anew where there is none."""
    num_workers: int = 4
    """Loader processes per training process; no more than there are cores."""
    checkpointing_steps: int | None = None
    """Optimiser steps between checkpoints; None makes one after every evaluation."""
    save_total_limit: int = 2
    """How many checkpoints are kept; with two, one is whole whatever happens to the other."""
    twin: bool = False
    """Also train on the labels only, for as many steps and for as long, and say whether the unlabelled images help."""
    hours: float | None = None
    """Size the schedule such that training takes about so many hours here, by passes measured before it begins."""
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
        _at_least(self, 1, "save_total_limit", "logging_steps")
        _at_least(self, 1, "checkpointing_steps", or_none=True)
        _at_least(self, 0, "num_workers", "nonfinite_limit", "panel_every")
        for name in ("hours", "max_hours"):
            value = getattr(self, name)
            _check(value is None or value > 0, f"{name} is {value} but must be positive")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    RunConfig, ScoreConfig, OptimiserConfig, NetworkConfig, GuidanceConfig, SampleConfig, DataConfig
):  # fmt: skip
    """All settings of a training run; a recipe is an instance of this class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                _check(not isinstance(number, float) or math.isfinite(number), f"{name} is {value} but must be finite")
        for name in ("seed", "split_seed"):  # as NumPy has it
            _check(getattr(self, name) < 2**32, f"{name} is {getattr(self, name)} but must be below {2**32}")

    def to_json(self) -> dict:
        """All settings as plain JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The settings that `to_json` wrote; raises ConfigError for unknown ones."""
        _check(isinstance(values, dict), "settings are no table of names and values; is config.json damaged?")
        unknown = set(values) - {field.name for field in fields(cls)}
        _check(
            not unknown, f"unknown settings: {', '.join(sorted(unknown))}; a newer version of prevmatch may know them"
        )
        for field in fields(cls):
            value = values.get(field.name, field.default)
            _check(_is_of(value, field.type), f"{field.name} is {value!r}, which is of the wrong kind")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            paths = {k: Path(values[k]) for k in ("data_dir", "output_dir") if values.get(k) is not None}
            return cls(**values | paths)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"settings of a wrong kind ({error}); is config.json damaged?") from error


def material(config: dict[str, Any]) -> dict[str, Any]:
    """What bears on the result of a run, of its settings as JSON: not where its data lies, nor how it is run.

    A resumed run may change the others, a table does not compare them, a card does not show them. Settings that an
    earlier version did not know have their defaults, which are what it did.
    """
    free = {field.name for part in (PlaceConfig, RunConfig) for field in fields(part)}
    defaults = {field.name: field.default for field in fields(TrainConfig)}
    # Through JSON's eyes: lists for tuples.
    complete = defaults | config
    return {k: list(v) if isinstance(v, tuple) else v for k, v in complete.items() if k not in free}


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value, as JSON has it, is of the kind that a setting is annotated with."""
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        inner = [each for each in get_args(kind) if each is not Ellipsis]
        return isinstance(value, list | tuple) and all(any(_is_of(v, each) for each in inner) for v in value)
    kinds: Any = {float: (int, float), Path: (str, Path)}.get(kind, kind)
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which runs make a table: methods × encoders × splits × seeds of one recipe."""

    recipe: Path
    """The recipe's file; its name says which published table belongs to it."""
    methods: tuple[MethodName | Literal["all"], ...] = ("supervised", "unimatch", "prevmatch")
    """Methods to compare, or all."""
    encoders: tuple[str, ...] = ()
    """timm encoders; none means those of the published table, or else the recipe's own."""
    splits: tuple[str, ...] = ()
    """Splits; none means those of the published table, or else the recipe's own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A run for each; the table shows mean and standard deviation."""
    oracle: bool = False
    """Also train on the labels of all images, and show which share of the gap between labels only and that each method
    closes. Fix `--epochs` and `--epoch_images` in args, so that all take as many steps."""
    data_dir: Path | None = None
    """Folder of the data set."""
    args: str = ""
    """More arguments for the recipe, the same for all runs."""
    launch: str = ""
    """Arguments for `accelerate launch`."""
    results_dir: Path = Path("results")
    """Where the runs and the tables go."""


def full_name(encoder: str) -> str:
    """timm's name of an encoder that may have a short one."""
    return ENCODERS.get(encoder, encoder)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _at_least(config: object, minimum: int, *names: str, or_none: bool = False) -> None:
    for name in names:
        value = getattr(config, name)
        told = f"at least {minimum}, or None" if or_none else f"at least {minimum}"
        _check((or_none and value is None) or value >= minimum, f"{name} is {value} but must be {told}")


def _share(config: object, *names: str) -> None:
    for name in names:
        _check(0 <= getattr(config, name) <= 1, f"{name} is {getattr(config, name)} but must lie in [0, 1]")


def _three_numbers(value: Any) -> bool:
    numbers = isinstance(value, tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e6 for v in value
    )
    return numbers and len(value) == 3


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


OWN_DATA = TrainConfig(
    dataset="custom",
    image_size=0,
    crop_size=0,
    encoder="auto",
    decoder_channels=0,
    epochs=0,
    batch_size=4,
    method="mean_teacher",
    partner="reversed",
    threshold_kind="classwise",
    class_weights="inverse_log",
    optimizer="adamw",
    lr=0,
    decoder_lr_multiplier=0,
    weight_decay=None,
    bank_policy="interval",  # needs no validation labels
    bank_interval=0,
    score="ema",
    output_dir=Path("outputs/custom"),
)
"""The recipe for a user's own images, of `prevmatch train` and recipes/custom.py."""
