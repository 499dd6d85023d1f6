"""What follows a finished run by itself: its report and, if wanted, the upload. Neither can take the results away."""

import shlex
import sys

from accelerate import Accelerator

from prevmatch.config import TrainConfig
from prevmatch.errors import PrevMatchError
from prevmatch.run.results import TrainResult
from prevmatch.share.hub import first_line, push, repo_id_of
from prevmatch.share.report_page import write_report


def close(result: TrainResult, config: TrainConfig, accelerator: Accelerator) -> TrainResult:
    """Write report.html and push as the settings say; what fails becomes one line on stderr, the run stays a success.

    Called by every process after result.json is written; the main one does it. Returns the result.
    """
    if accelerator.is_main_process:
        _close(config)
    return result


def _close(config: TrainConfig) -> None:
    folder = config.output_dir
    try:
        write_report(folder)
    except Exception as error:  # a full disk, a picture library's whims: the weights and scores are safe
        again = f"run: prevmatch report {shlex.quote(str(folder))}"
        print(
            f"warning: {folder / 'report.html'} could not be written ({first_line(error)}); {again}", file=sys.stderr
        )
    if config.push_to_hub:
        try:
            print(f"uploaded to {push(folder, repo_id_of(config), private=config.hub_private)[1]}")
        except (PrevMatchError, OSError) as error:
            print(f"warning: {first_line(error)}", file=sys.stderr)
