"""``python -m bench.shadow``: prints the table and writes bench/results/shadow.json and .md. Takes about ten minutes.

Real engines answer the prompts of a shadow's pairs once: the stable release (W8A8), a sound candidate (W4A16), and candidates whose
scales were spoilt, which score the stable release's answers too. The pairs are compared as the gateway compares them and judged one by
one, as the controller judges them, in several orders; then a stack does the same with requests as they come.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.child import ml_versions
from bench.report import Row, middle, publish, row
from bench.serving.checkpoints import EXAMPLE, MODEL, candidate_spec, prompts, quantized, spoil, spoilt_spec, stable_spec
from bench.serving.engine import Engine, bare_engine
from bench.shadow.live import Live, live
from quantry_core.strategies import ShadowStrategy
from quantry_core.traffic import PairTally, ReleaseTraffic, Tally, TrafficWindow
from quantry_core.verdicts import Verdict
from quantry_deploy.analysis.pairs import judge_pairs
from quantry_gateway.pairs import COMPLETIONS_PATH, PairScore, pair_body, tokens_of
from quantry_gateway.scores import compare_scored, score_body, scores_of, written_by

NUM_ORDERS = 11
NUM_PROMPTS = 400
ERROR_PROBABILITY = 0.05
_CONCURRENCY = 8
STABLE, SOUND = "W8A8", "W4A16"
SPOILT: Mapping[str, float] = {"W4A16, scales off by about 1.4": 0.5, "W4A16, scales off by about 1.1": 0.14}
"""The standard deviation of the factors, as a power of two."""

STRATEGY = ShadowStrategy()
"""With the default bounds."""

LIBRARIES = ("torch", "llmcompressor", "compressed-tensors")


class Told(NamedTuple):
    """What one candidate's pairs came to, in all orders."""

    verdicts: dict[str, int]
    num_pairs: list[int]
    """Up to the verdict, of each order."""

    disagreement: float
    divergence_nats: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Collects the answers, judges them in every order, and returns 0; 1 if a candidate got the wrong verdict in any order."""
    parser = argparse.ArgumentParser(prog="bench.shadow", description=__doc__)
    parser.add_argument("--prompts", type=int, default=NUM_PROMPTS)
    parser.add_argument("--no-live", action="store_true", help="only the answers that were collected; writes nothing")
    options = parser.parse_args(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="quantry-bench-", dir="/tmp"))
    try:
        scores = _scores(scratch, prompts(options.prompts))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    told = {name: judged(pairs) for name, pairs in scores.items()}
    for name, one in told.items():
        print(f"{name}: {one.verdicts}, pairs {sorted(one.num_pairs)}, {one.disagreement:.3f}, {one.divergence_nats:.3f} nats", flush=True)
    wrong = [name for name, one in told.items() if set(one.verdicts) != {Verdict.PASS if name == SOUND else Verdict.FAIL}]
    if options.no_live:
        return 1 if wrong else 0
    lives = {name: live(STRATEGY, spread) for name, spread in ((SOUND, None), (next(iter(SPOILT)), SPOILT[next(iter(SPOILT))]))}
    details = {
        "strategy": STRATEGY.model_dump(mode="json"),
        "error_probability": ERROR_PROBABILITY,
        "num_prompts": options.prompts,
        "num_orders": NUM_ORDERS,
        "told": {name: one._asdict() for name, one in told.items()},
        "live": {name: one._asdict() for name, one in lives.items()},
    }
    publish(
        "shadow", "Telling a corrupted candidate by its answers", _rows(told, lives), libraries=ml_versions(*LIBRARIES), details=details
    )
    return 1 if wrong else 0


def judged(pairs: Sequence[PairScore], *, num_orders: int = NUM_ORDERS) -> Told:
    """Returns when each order of the pairs came to a verdict, looked at after every pair."""
    verdicts: dict[str, int] = {}
    taken = []
    for seed in range(num_orders):
        order = list(pairs)
        random.Random(seed).shuffle(order)
        verdict, num = first_verdict(order)
        verdicts[verdict.value] = verdicts.get(verdict.value, 0) + 1
        taken.append(num)
    mean = (sum(one.disagreement for one in pairs) / len(pairs), sum(one.divergence for one in pairs) / len(pairs))
    return Told(verdicts, taken, *mean)


def first_verdict(pairs: Sequence[PairScore]) -> tuple[Verdict, int]:
    """Returns the first verdict that is not inconclusive and after how many pairs it came; inconclusive after all of them."""
    windows: list[TrafficWindow] = []
    now = datetime.now(UTC)
    for number, pair in enumerate(pairs, start=1):
        tally = PairTally(
            num_pairs=1,
            disagreement_sum=pair.disagreement,
            disagreement_square_sum=pair.disagreement**2,
            divergence_sum=pair.divergence,
            divergence_square_sum=pair.divergence**2,
        )
        windows.append(TrafficWindow(release_id="rel_2", began_at=now, ended_at=now, tally=Tally(pairs=tally)))
        finding = judge_pairs(STRATEGY, ReleaseTraffic(release_id="rel_2", windows=windows), ERROR_PROBABILITY)
        if finding.verdict is not Verdict.INCONCLUSIVE:
            return finding.verdict, number
    return Verdict.INCONCLUSIVE, len(pairs)


def _scores(scratch: Path, asked: Sequence[str]) -> dict[str, list[PairScore]]:
    """Returns each candidate's pairs with the stable release, by its name."""
    folders = {STABLE: quantized(scratch / "stable", EXAMPLE, stable_spec("bard-6m@1"))}
    folders[SOUND] = quantized(scratch / "sound", EXAMPLE, candidate_spec("bard-6m@1"))
    for number, (name, spread) in enumerate(SPOILT.items()):
        master = spoil(scratch / f"spoilt-{number}-master", spread=spread)
        folders[name] = quantized(scratch / f"spoilt-{number}", master, spoilt_spec("bard-spoilt@1"))
    with _answering(folders[STABLE], STABLE, scratch) as engine, ThreadPoolExecutor(_CONCURRENCY) as threads:
        answers = list(threads.map(partial(_answer, engine), asked))
    found = {}
    for name, folder in folders.items():
        if name != STABLE:
            with _answering(folder, name, scratch) as engine, ThreadPoolExecutor(_CONCURRENCY) as threads:
                found[name] = list(threads.map(partial(_pair, engine), asked, answers))
    return found


@contextmanager
def _answering(checkpoint: Path, name: str, scratch: Path) -> Iterator[Engine]:
    print(f"{name} is asked", flush=True)
    with bare_engine(checkpoint, MODEL, scratch / f"{checkpoint.parent.parent.name}.log") as engine:
        yield engine


def _pair(engine: Engine, prompt: str, stable: bytes) -> PairScore:
    """Returns how far a candidate is from the stable release's answer to a prompt."""
    written = written_by(stable)
    if written is None:
        raise RuntimeError("the engine tells no token ids")
    scores = scores_of(_post(engine, score_body(engine.name, written)), written)
    if scores is None:
        raise RuntimeError("the engine has no scores")
    return compare_scored(tokens_of(stable), scores, tokens_of(_answer(engine, prompt)))


def _answer(engine: Engine, prompt: str) -> bytes:
    body = json.dumps({"model": engine.name, "prompt": prompt}).encode()
    return _post(engine, pair_body(COMPLETIONS_PATH, body, max_tokens=STRATEGY.max_tokens))


def _post(engine: Engine, body: bytes) -> bytes:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{engine.url}{COMPLETIONS_PATH}", content=body, headers=headers, timeout=120, trust_env=False)
    return answer.raise_for_status().content


def _rows(told: Mapping[str, Told], lives: Mapping[str, Live]) -> list[Row]:
    sound = middle(told[SOUND].num_pairs)
    bound = "two means and the width of their confidence sequences, each with half of the error probability"
    rows = []
    for name, one in told.items():
        verdict = " and ".join(f"{verdict} in {num} of {NUM_ORDERS} orders" for verdict, num in one.verdicts.items())
        title = f"pairs until the verdict on {name}: {verdict}"
        rows.append(row(title, middle(one.num_pairs), sound, "pairs", floor=f"the sound candidate ({SOUND})", bound=bound))
    for name, ended in lives.items():
        title = f"live: pairs until {name} was {ended.state} ({ended.reason})"
        rows.append(
            row(title, ended.num_pairs, middle(told[name].num_pairs), "pairs", floor="the same from collected answers", bound=bound)
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
