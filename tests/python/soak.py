"""The long run of the chaos: `python soak.py --seconds N --kill-every S --seed X`."""

from __future__ import annotations

import argparse
import random
import sys

import chaos


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kill-every", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"chaos: seed={seed} (repeat with --seed {seed})", flush=True)
    report = chaos.run("soak", args.seconds, args.kill_every, seed)
    for violation in report.violations[:50]:
        print(f"VIOLATION {violation}")
    print(report.line())
    return 1 if report.violations or report.accepted == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
