from pathlib import Path

import pytest
from accelerate import Accelerator

from prevmatch.errors import TrainingError
from prevmatch.run.logbook import Logbook


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_records_that_cannot_be_written_are_one_line_that_names_them(tiny_config):
    tiny_config.output_dir.mkdir()
    (tiny_config.output_dir / "metrics.jsonl").symlink_to("/dev/full")
    logbook = Logbook(Accelerator(), tiny_config, batches=1)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl cannot be written \(No space left.*--resume$"):
        logbook.write({"step": 0, "loss": 1.0})
