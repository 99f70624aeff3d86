"""Documents of evaluation tasks that an operator put on this machine, lent to one attempt.

The library ``datasets`` makes locks and caches beside what it reads. So an attempt gets folders of its own in which every file is
a link to the one that is lent: nothing is copied, and what is lent stays as it is, on a read-only disk too.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = ("datasets", "hub")
"""What is lent of a folder that is laid out as HF_HOME is. A token may lie beside them."""
LOCK_SUFFIX = ".lock"


def lend_datasets(cache: Path, home: Path) -> None:
    """Makes everything of the cache appear below ``home``, an attempt's HF_HOME. A folder keeps its time: the newest one is read."""
    for folder in FOLDERS:
        source = (cache / folder).absolute()
        for directory, folders, files in os.walk(source, topdown=False):
            target = home / folder / Path(directory).relative_to(source)
            target.mkdir(parents=True, exist_ok=True)
            for name in [*files, *folders]:
                if not name.endswith(LOCK_SUFFIX) and not (target / name).exists():
                    (target / name).symlink_to(Path(directory) / name)
            status = Path(directory).stat()
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
