"""Kill runs at random for some minutes and count what became of them: `make soak`.

    python tests/faults/soak.py --minutes 10

Each run trains, saves every second step in the background and evaluates after each epoch; it is killed with SIGKILL at
random moments, together with everything it started, and started again, until it has finished. Its weights, momentum,
bank, records and scores are then compared bit by bit with those of a run that nothing disturbed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.runs import finish, killed_and_resumed, outcome
from prevmatch.run.checkpoint import newest


def main() -> None:
    """Print counts per kind of fault; exit status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    rows, lost = [], 0
    with tempfile.TemporaryDirectory() as place:
        for processes, share in ((1, 0.6), (2, 1.0)):
            until = time.monotonic() + share * (end - time.monotonic())
            whole = Path(place) / f"whole{processes}"
            assert finish(whole, processes=processes) == 0
            expected, resumed, anew, runs, identical = outcome(whole), 0, 0, 0, 0
            while time.monotonic() < until:
                folder = Path(place) / f"run{processes}_{runs}"
                counts = killed_and_resumed(folder, 5, seed=runs, processes=processes)
                resumed, anew = resumed + counts[0], anew + counts[1]
                runs += 1
                identical += outcome(folder) == expected
                said = f"{resumed + anew} kills, {resumed} resumed, {anew} before there was a checkpoint"
                print(f"{processes} process(es): {said}; {runs} runs finished, {identical} identical", flush=True)
            name = f"SIGKILL, {processes} process(es)"
            rows.append((name, resumed + anew, resumed, anew, runs - identical, f"{identical} of {runs}"))
            lost += runs - identical
        rows.append(torn(whole))
        lost += rows[-1][4]
    print("\n| fault | tried | resumed | started anew | lost | runs bit-identical |\n|---|---:|---:|---:|---:|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    sys.exit(1 if lost else 0)


def torn(run: Path) -> tuple[str, int, int, int, int, str]:
    """Damage every file of the newest checkpoint in three ways; the one before it must be found each time."""
    older, last = sorted((run / "checkpoints").glob("step_*"))[-2:]
    tried = found = 0
    for path in [path for path in last.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b"", bytes([content[0] ^ 1]) + content[1:]):
            path.write_bytes(damaged)
            tried += 1
            found += newest(run / "checkpoints", lambda line: None) == older
        path.write_bytes(content)
    return "torn file of a checkpoint", tried, found, 0, tried - found, ""


if __name__ == "__main__":
    main()
