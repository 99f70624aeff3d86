"""``python -m bench.gpu.rollouts --engine-python <Python with vLLM for CUDA>``: deploys and canaries of engines on an NVIDIA GPU.

The same as bench.deploy and bench.canary, which say what is measured, with the engines on a GPU: about a quarter of an hour. Both
releases of a canary are on one GPU; each takes its KV cache and its weights. With a GPU it writes bench/results/gpu/deploy.json and
canary.json; with vLLM for CPUs it runs all the same and writes nothing, so that the script can be tried anywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.canary import __main__ as canary
from bench.deploy import __main__ as deploy
from bench.serving.engine import ENGINE_PYTHON, Where, device_of

CANARY_REQUESTS_PER_S = "32"
"""A GPU answers sooner, so that more is asked in the same time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both and returns 0; 1 if something was not as it must be, 2 with a sentence where there is no vLLM."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.rollouts", description=__doc__)
    parser.add_argument("--engine-python", type=Path, default=ENGINE_PYTHON, help="of an environment that holds vLLM")
    parser.add_argument("--only", choices=("deploy", "canary"))
    options = parser.parse_args(arguments)
    try:
        device = device_of(options.engine_python)
    except (RuntimeError, OSError) as error:
        print(f"bench.gpu.rollouts: {error}", file=sys.stderr)
        return 2
    where = Where(options.engine_python, device, folder="gpu/", is_written=device == "cuda")
    statuses = []
    if options.only in {None, "deploy"}:
        statuses.append(deploy.main([], where))
    if options.only in {None, "canary"}:
        statuses.append(canary.main(["--rate", CANARY_REQUESTS_PER_S] if device == "cuda" else [], where))
    if not where.is_written:
        print("There is no GPU here: nothing was written.")
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
