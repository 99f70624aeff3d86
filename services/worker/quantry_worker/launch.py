"""First code of a child process: ``python -m quantry_worker.launch <parent pid> <module> <arguments ...>``.

It ties the child to the pool process that started it, has it keep what it starts, and offers it to the kernel's out-of-memory
killer before every other process of the machine; then it runs the module as ``python -m`` would. It is a step of its own
because all of that must be done in the child, before the minutes that importing torch can take, and a function between fork
and exec is not safe in a process with threads.
"""

from __future__ import annotations

import runpy
import sys

from quantry_worker.lifeline import die_first, die_with_parent, keep_orphans


def main(arguments: list[str]) -> None:
    """Runs the module named second, as a child of the process named first."""
    parent_pid, module, *rest = arguments
    die_with_parent(int(parent_pid))
    keep_orphans()
    die_first()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
