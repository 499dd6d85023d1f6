"""Everything that a GPU still has to show, in one command of at most eight minutes: checks, speed, a short training.

    python benchmarks/on_gpu.py --camvid CamVid --encoder_weights mobilenetv2_100.safetensors
    python benchmarks/on_gpu.py --only views step --output_dir somewhere
    python benchmarks/on_gpu.py --device cpu --small          # a rehearsal of every section, without a GPU

Each section's lines are printed as they are found, and gpu/NAME.json is written anew after each. A section that fails,
dies or takes too long says so in one line (the log has the rest), and the next one goes on in a fresh process.
docs/gpu_first_run.md says what each line should print.
"""

import argparse
import contextlib
import importlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of the command: which function it is, how long it usually takes and may take at most, in seconds."""

    function: str
    """MODULE.NAME"""
    usual: float
    limit: float
    environment: dict[str, str] = field(default_factory=dict)


DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""What deterministic products of matrices need before the first of them."""

SECTIONS = {
    "machine": Section("gpu_speed.machine", 10, 40),
    "views": Section("gpu_checks.check_views", 4, 30),
    "step": Section("gpu_checks.check_step", 32, 60),
    "waits": Section("gpu_checks.check_waits", 60, 120),
    "swap": Section("gpu_checks.check_swap", 30, 60),
    "speed_321": Section("gpu_speed.speed_321", 72, 100),
    "speed_801": Section("gpu_speed.speed_801", 85, 120),
    "speed_dinov2": Section("gpu_speed.speed_dinov2", 70, 120),
    "resume": Section("gpu_runs.check_resume", 60, 150, DETERMINISTIC),
    "ddp": Section("gpu_runs.check_ddp", 40, 95, DETERMINISTIC),
    "camvid": Section("gpu_runs.camvid", 110, 125),
    "compile": Section("gpu_checks.check_compile", 20, 120),
}


@dataclass(frozen=True)
class Line:
    """One thing that was found."""

    what: str
    found: str
    expected: str = ""
    right: bool | None = None
    """Whether it is as expected; None where nothing is expected."""
    numbers: dict[str, Any] = field(default_factory=dict)


class FailedError(Exception):
    """A section that ended without its end; the process that ran it is no longer to be used."""


class Worker:
    """A process that runs sections by name, one after the other."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: TextIO):
        self.environment = environment
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "on_gpu.py"), *arguments, "--worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env=os.environ | environment,
        )  # fmt: skip
        self.said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self, name: str, limit: float, show: Any) -> None:
        """Run a section and hand its lines to `show` as they come; raises FailedError with one line of why."""
        deadline = time.monotonic() + limit
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise FailedError(f"its process is gone ({error})") from error
        while True:
            try:
                message = json.loads(self.said.get(timeout=max(0.1, deadline - time.monotonic())))
            except queue.Empty as error:
                raise FailedError(f"took longer than {limit:.0f} s and was ended") from error
            if message["kind"] == "line":
                show(Line(**message["line"]))
            elif message["kind"] == "failed":
                raise FailedError(message["why"])
            elif message["kind"] == "gone":
                raise FailedError(f"its process died (status {self.process.wait()})")
            else:
                return

    def end(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.said.put(text)
        self.said.put('{"kind": "gone"}')


def serve(options: argparse.Namespace) -> None:
    """Run the sections named on stdin; one JSON message per line goes to stdout, all that is printed to stderr."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(kind: str, **content: Any) -> None:
        channel.write(json.dumps({"kind": kind, **content}) + "\n")
        channel.flush()

    for text in sys.stdin:
        name = text.strip()
        print(f"\n===== {name}", file=sys.stderr, flush=True)
        try:
            module, _, function = SECTIONS[name].function.partition(".")
            for line in getattr(importlib.import_module(module), function)(options):
                tell("line", line=asdict(line))
            tell("end")
        except BaseException as error:
            traceback.print_exc()
            told = str(error).strip().splitlines() or [""]
            tell("failed", why=f"{type(error).__name__}: {told[0]}"[:300])
            if not isinstance(error, Exception):
                raise


def write_aside(path: Path, content: Any) -> None:
    """Replace a JSON file as a whole."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(path)


def print_line(line: Line) -> None:
    """One line of the table."""
    mark = {True: "ok", False: "WRONG", None: ""}[line.right]
    print(f"{mark:5} | {line.what} | {line.found} | {line.expected}", flush=True)


def main(options: argparse.Namespace, arguments: list[str]) -> int:
    """Run the sections within the time, print their lines, write the JSON; returns 1 if a line is wrong or missing."""
    started = time.monotonic()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"arguments": arguments, "date": time.strftime("%Y-%m-%d %H:%M:%S"), "sections": {}}
    path, worker, wrong = options.output_dir / f"{options.name or 'gpu'}.json", None, 0
    log = (options.output_dir / f"{options.name or 'gpu'}.log").open("w")
    print("      | what | found | expected", flush=True)
    for name in options.only:
        section, began = SECTIONS[name], time.monotonic()
        lines: list[dict[str, Any]] = []
        left = 60 * options.minutes - (began - started)
        found: dict[str, Any] = {"lines": lines}
        content["sections"][name] = found

        def show(line: Line, lines: list = lines, began: float = began) -> None:
            lines.append(asdict(line) | {"after": round(time.monotonic() - began, 2)})
            print_line(line)

        if left < min(section.usual, section.limit):
            found["failed"] = f"skipped: {max(left, 0):.0f} s are left, it usually takes {section.usual:.0f} s"
        else:
            if worker is not None and worker.environment != section.environment:
                worker.end()
                worker = None
            worker = worker or Worker(arguments, section.environment, log)
            try:
                worker.run(name, min(section.limit if not options.small else 600, left), show)
            except FailedError as error:
                found["failed"] = str(error)
                worker.end()
                worker = None
        found["seconds"] = round(time.monotonic() - began, 1)
        if "failed" in found:
            print(f"FAIL  | {name} | {found['failed']} |", flush=True)
        wrong += "failed" in found or any(line["right"] is False for line in lines)
        print(f"      | section {name} | {found['seconds']} s |", flush=True)
        content["minutes"] = round((time.monotonic() - started) / 60, 2)
        if name == "machine" and lines and not options.name:  # the file gets the device's name once it is known
            new = re.sub(r"[^A-Za-z0-9]+", "_", lines[0]["found"].split(";")[0]).strip("_").lower()
            path = path.with_name(f"{new or 'gpu'}.json")
        write_aside(path, content)
    if worker is not None:
        worker.end()
    print(f"{wrong} of {len(options.only)} sections are not as expected; {path}, log beside it", flush=True)
    return int(wrong > 0)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="sections that no longer fit are skipped")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS), metavar="SECTION")
    parser.add_argument(
        "--output_dir", "--output", type=Path, default=FOLDER / "gpu", help="for NAME.json and the log"
    )
    parser.add_argument("--name", help="NAME; the device's name where nothing is said")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, as a rehearsal")
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; without it that section is left out")
    parser.add_argument("--encoder_weights", type=Path, help="ImageNet weights of mobilenetv2_100 under timm's names")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    # Under `python benchmarks/on_gpu.py` this file is __main__; what imports it by name gets the same classes.
    sys.modules["on_gpu"] = sys.modules["__main__"]
    given = parsed(sys.argv[1:])
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # also where nothing is installed
    )
    if given.worker:
        sys.path.insert(0, str(FOLDER.parent))
        serve(given)
    else:
        sys.exit(main(given, sys.argv[1:]))
