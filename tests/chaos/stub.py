"""The recipe of about two seconds that stands in for the real ones, and the ledger it leaves.

It is started as every child is: by the worker's supervisor, through the product's own launcher, so that it dies with its
parent. What it does is told by an evaluate job's spec: ``max_windows`` is how many milliseconds it works, ``window_tokens``
is one of ``Behaviour``. Each run appends lines to a file, which is the side effect that tells how often a job was really run.
"""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from factories.child_python import write_python


class Behaviour(IntEnum):
    """What a job's child does; the value stands in ``window_tokens``."""

    WORK = 256
    SLOW_AT_FIRST = 33
    """Its first attempt takes SLOW_S seconds, the next ones as long as it says."""
    KILL_ITSELF = 17
    EAT_MEMORY = 19


SLOW_S = 5.0

_CHILD = """
import fcntl, shutil

task = json.load(open(sys.argv[1]))
spec, job_id, attempt = task["spec"], task["job_id"], task["attempt"]

def mark(what):
    who = {"job_id": job_id, "attempt": attempt, "pid": os.getpid(), "ppid": os.getppid()}
    line = json.dumps({"what": what, **who, "at": time.monotonic()})
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (line + "\\n").encode())
    os.close(descriptor)

def die_at(point):
    # As chaos.kill_points does in the product's processes: armed by one file, once.
    try:
        if open(ARMED).read() != point:
            return
        os.rename(ARMED, ARMED + ".fired")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

if spec["type"] == "import":
    die_at("save: before the first file")
    for path in sorted(os.listdir(spec["source"])):
        with open(os.path.join(spec["source"], path), "rb") as source, open(os.path.join(task["output_dir"], path), "wb") as saved:
            saved.write(source.read(1))
            saved.flush()
            die_at("save: within a file")
            shutil.copyfileobj(source, saved)
    die_at("save: all files")
    say(event="result", version={"kind": "master", "format": "safetensors", "dtype": "float16"})
    die_at("save: result said")
    sys.exit(0)

# Held by the kernel until this process ends, however it does: whoever finds it held runs beside another attempt of the job.
hold = open(os.path.join(HOLDS, job_id), "w")
try:
    fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    mark("beside")
mark("begin")
progress(0.1)
if spec["window_tokens"] == KILL_ITSELF:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
elif spec["window_tokens"] == EAT_MEMORY:
    eaten = []
    # Bounded, so that a platform without limits does not take the machine along.
    for _ in range(64):
        eaten.append(bytearray(os.urandom(1024)) * 16 * 1024)
        time.sleep(0.05)
    time.sleep(10)
elif spec["window_tokens"] == SLOW_AT_FIRST and attempt == 1:
    time.sleep(SLOW_S)
else:
    time.sleep(spec["max_windows"] / 1000)
mark("end")
evidence = {"kind": "evaluation", "name": "stub", "verdict": "inconclusive", "metrics": {"num_windows": spec["max_windows"]}}
say(event="result", evidence=[evidence])
"""


class Mark(NamedTuple):
    """One line of the ledger. ``beside``: another attempt of the job lived then."""

    what: str
    job_id: str
    attempt: int
    pid: int
    ppid: int
    at: float
    """Seconds on this machine's monotonic clock."""


class Stub:
    """The interpreter to give the worker as QUANTRY_ML_PYTHON, and the ledger its children write."""

    def __init__(self, directory: Path) -> None:
        self._ledger = directory / "ledger.jsonl"
        holds = directory / "holds"
        holds.mkdir(parents=True)
        self.armed = directory / "armed"
        names = {"LEDGER": str(self._ledger), "HOLDS": str(holds), "SLOW_S": SLOW_S, "ARMED": str(self.armed)}
        names |= {behaviour.name: behaviour.value for behaviour in Behaviour}
        self.python = write_python(directory, "".join(f"{name} = {value!r}\n" for name, value in names.items()) + _CHILD)

    def marks(self) -> list[Mark]:
        """Returns what the children wrote so far, in its order."""
        if not self._ledger.exists():
            return []
        # The last line may be half written.
        lines = self._ledger.read_text().split("\n")[:-1]
        return [Mark(**json.loads(line)) for line in lines]
