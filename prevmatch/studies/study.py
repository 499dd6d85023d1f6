"""All that one command trains, a run, or folds and a final model, then the twins on labels only, and what they say.

What it found is in study.json, which report.html begins with: the number and how sure it is, whether the unlabelled
photos helped, how good the pseudo-labels are, which masks to doubt, and the next step.
"""

import dataclasses
import json
import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from prevmatch.config import TrainConfig
from prevmatch.errors import ConfigError, DataError
from prevmatch.intervals import FEWEST, MOST_FOLDS, answer
from prevmatch.run.launch import is_first, wait_for_all
from prevmatch.run.results import settings_of
from prevmatch.share.report_page import STUDY, SUSPICIOUS, read_json, write_report
from prevmatch.studies.folds import length_of, run_all, tell
from prevmatch.studies.gain import gain
from prevmatch.studies.held_out import held_out, parts_of
from prevmatch.studies.pseudo_labels import LABEL_MORE, quality
from prevmatch.studies.suspicious import draw_suspicious, ranking
from prevmatch.writing import write_text

TWINS = {"twin": "for as many steps", "twin_time": "for as long"}
WORTH_IT = 1.1
"""A twin for as long is trained if its steps are so many times faster."""
DOUBTFUL = 10.0
"""% of a mask's pixels that a network surely contradicts, from which on it is the first thing to look at."""


def study(config: TrainConfig) -> list[str]:
    """Train what the settings ask for and note what follows from it; returns what to tell at the end, a line each.

    Raises the errors of `train`; what was done stays, and with `resume` the same call goes on.
    """
    if config.twin and config.fold is not None:
        raise ConfigError("twin compares whole studies; leave --fold out")
    if config.hours and config.steps:
        raise ConfigError("hours and steps both size the schedule; name one of them")
    if config.twin and 0 < config.folds < FEWEST:
        raise ConfigError(
            f"twin with {config.folds} folds could not be told from chance; use --folds {FEWEST} or more"
        )
    begun = time.monotonic()
    if config.twin:
        tell("afterwards all is done again on labels only, for as many steps and, where that is faster, for as long")
    result = run_all(config, begun)
    lines = [result.line()]
    if config.fold:
        return [f"{lines[0]}; the final model is --fold 0, once all {config.folds} folds are finished"]
    if config.dataset != "custom":  # published data sets have protocols of their own
        return lines
    if config.twin:
        _train_twins(config, begun)
    if is_first():
        content = findings(config.output_dir)
        lines += [*content["helped"].values(), f"next: {content['next_step']}"]
        write_text(config.output_dir / STUDY, json.dumps(content, indent=2) + "\n")
        write_report(config.output_dir)
    wait_for_all()
    return lines


def findings(run: Path) -> dict[str, Any]:
    """What a finished run, its folds and its twins say, as plain JSON values; draws the most doubtful masks."""
    settings = settings_of(run)
    content: dict[str, Any] = {"helped": helped(run), "pseudo_labels": None, "suspicious": []}
    if settings.folds:
        held = held_out(run)
        content["pseudo_labels"] = quality(held, settings) if settings.method != "supervised" else None
        content["suspicious"] = ranking(held)
        draw_suspicious(held, content["suspicious"], run / SUSPICIOUS)
    result = read_json(run / "result.json")
    return content | {"next_step": next_step(run, settings, result, content)}


def next_step(run: Path, settings: TrainConfig, result: dict, found: dict[str, Any]) -> str:
    """The one thing that most likely brings more, in a sentence."""
    if not settings.folds and ": --folds" in (result.get("told") or ""):
        return f"add --folds {min(MOST_FOLDS, result['labelled'] + result['validation'])}, for a number to rely on"
    if found["suspicious"] and found["suspicious"][0]["contradicted"] >= DOUBTFUL:
        worst = found["suspicious"][0]
        return f"look at the mask of {worst['image']} ({worst['why']})"
    if any("? no: use" in line for line in found["helped"].values()):
        return "use --method supervised, which was better from the same masks"
    suggest = f"prevmatch suggest {shlex.quote(str(run))} --count 10" if result.get("unlabelled") else ""
    if advice := (found["pseudo_labels"] or {}).get("advice"):
        named = suggest and advice[0].endswith(LABEL_MORE)
        return f"{advice[0]}; which ones: {suggest}" if named else advice[0]
    if suggest:
        return f"label what is in doubt: {suggest}"
    return "label more photos"


def helped(run: Path) -> dict[str, str]:
    """Whether a run was better than each of its twins that is finished, on the same images, in a sentence."""
    told = {}
    for folder, how in TWINS.items():
        if (run / folder / "result.json").is_file():
            with suppress(DataError):  # a twin of an earlier run, of other images
                found = answer(gain([run], [run / folder]))
                told[folder] = f"did the unlabelled photos help, against labels only {how}? {found}"
    return told


def _train_twins(config: TrainConfig, begun: float) -> None:
    """Train on labels only what the run learned from all."""
    run = config.output_dir
    main = read_json(run / "result.json")
    length = length_of(parts_of(run)[0])  # the final model may have trained shorter
    for folder, how in TWINS.items():
        epochs = length["epochs"]
        if folder == "twin_time":
            faster = main["seconds_per_iteration"] / read_json(run / "twin" / "result.json")["seconds_per_iteration"]
            if faster < WORTH_IT:
                continue
            epochs = round(faster * epochs)
        own = dataclasses.replace(
            config, output_dir=run / folder, twin=False, method="supervised", previous_guidance=False, partner=None,
            push_to_hub=False, **length | {"epochs": epochs},
        )  # fmt: skip
        tell(f"== labels only, {how}")
        run_all(own, begun)
