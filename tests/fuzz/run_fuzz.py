"""`run_fuzz.py --seconds 600 --seed 1`: fuzzes sentries until the time is over, each with a seed of its own; prints what broke, and with which."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundle import Bundle, leftovers
from fuzz import harness

SLICE_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=None, help="of the first run; the next have the numbers after it")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    until = time.monotonic() + arguments.seconds
    total = broken = 0
    while (left := int(until - time.monotonic())) > 0:
        with tempfile.TemporaryDirectory() as directory:
            bundle = Bundle(Path(directory), "casemate")
            try:
                report = harness.run(bundle, seed, min(left, SLICE_S), 1 << 40)
            finally:
                bundle.close()
            report.faults += [f"left: {what}" for what in leftovers(bundle.id, Path(directory))]
        total += report.processes
        broken += bool(report.faults)
        print(
            f"seed {seed}: {report.processes} processes, {report.answers} answers, at most {report.highest_kib} KiB,"
            f" in the end {report.last_kib} KiB and {report.last_descriptors} descriptors",
            flush=True,
        )
        for fault in report.faults:
            print(f"  {fault}", flush=True)
        seed += 1
    print(f"{total} processes, {broken} broken runs")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
