"""Command line: what the recipes and the `prevmatch` command share. Heavy imports wait until they are needed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from prevmatch.config import TrainConfig
from prevmatch.errors import PrevMatchError

Value = TypeVar("Value")


def run_recipe(default: TrainConfig, description: str | None = None) -> None:
    """Train with a recipe's settings, each of which the command line can override."""

    def start() -> None:
        config = tyro.cli(TrainConfig, default=default, description=description, use_underscores=True)
        from accelerate import PartialState

        from prevmatch.loop import train

        result = train(config)
        PartialState().print(
            f"best mIoU {result.best_miou:.2f} % (epoch {result.best_epoch}), final {result.final_miou:.2f} %, "
            f"{result.seconds_per_iteration:.3f} s per iteration; see {result.output_dir}"
        )

    or_exit(start)


def or_exit(command: Callable[[], Value]) -> Value:
    """Run a command; an error raised on purpose, or by the file system, becomes one line and exit status 1."""
    try:
        return command()
    except (PrevMatchError, OSError) as error:
        sys.exit(f"error: {error}")


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]], /, *, output_dir: Path = Path("outputs/comparison"), count: int = 12
) -> None:
    """Print one table of finished runs and write side-by-side pictures of their models.

    Args:
        runs: Output folders of finished runs of one data set.
        output_dir: Where TABLE.md and the pictures go.
        count: How many validation images to show.
    """
    from prevmatch.compare import compare as compare_runs

    print(compare_runs(runs, output_dir, count=count))
    print(f"\npictures: {output_dir}")


def main() -> None:
    """Entry point of the `prevmatch` command."""
    or_exit(lambda: tyro.extras.subcommand_cli_from_dict({"compare": compare}, use_underscores=True))


if __name__ == "__main__":
    main()
