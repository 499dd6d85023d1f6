from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from prevmatch.errors import TrainingError
from prevmatch.run.logbook import Logbook
from prevmatch.run.state import TrainState


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_records_that_cannot_be_written_are_one_line_that_names_them(tiny_config):
    tiny_config.output_dir.mkdir()
    (tiny_config.output_dir / "metrics.jsonl").symlink_to("/dev/full")
    logbook = Logbook(Accelerator(), tiny_config, batches=1)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl cannot be written \(No space left.*--resume$"):
        logbook.write({"step": 0, "loss": 1.0})


def test_bar_counts_every_batch_and_a_resumed_run_starts_where_it_was(tiny_config):
    tiny_config.output_dir.mkdir()
    logbook, state = Logbook(Accelerator(), tiny_config, batches=100), TrainState()
    for done in (1, 2, 3):
        logbook.batch(state, 0.1, {"loss": torch.tensor(1.0)}, [(0, 0)], "taken")
        assert logbook.bar.n == done
    again = Logbook(Accelerator(), tiny_config, batches=100)
    again.resume(logbook.to_json(), b"", batches=63)
    assert again.bar.n == again.bar.initial == 63
    again.flush()
    assert again.bar.n == 63
