"""The embedded stack: up, down, status."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from quantry_local.errors import StackError
from quantry_local.folders import choose_folders, make_private
from quantry_local.installation import Installation, find_installation
from quantry_local.interrupts import Interrupted, uninterrupted
from quantry_local.last_words import last_words
from quantry_local.launch import LaunchFile
from quantry_local.layout import Layout
from quantry_local.leftovers import end_processes, find_processes
from quantry_local.parts import OneShot, Part
from quantry_local.ports import choose_ports
from quantry_local.private_files import write_private
from quantry_local.secret_values import KEY_NAMES, Secrets, load_secrets, save_secrets
from quantry_local.state import ClientFile, load_ports, locked, save_client_file, save_ports
from quantry_local.supervisor_config import SupervisorFiles, render_config
from quantry_local.supervisor_rpc import Program, ProgramState, SupervisorRpc

MIN_FREE_BYTES = 512 * 1024**2
SUPERVISOR_START_S = 20.0
STOP_DEADLINE_S = 8.0
"""Seconds for an orderly end; what is left then is ended by force, which takes up to 7 more: 15 in all."""
SUPERVISOR_REAP_S = 5.0
STOP_ORDER = (("dashboard", "deploy", "worker"), ("gateway",), ("api", "registry"), ("s3", "redis"), ("postgres",))
"""Those that do not need each other stop at the same time."""


@dataclass(frozen=True)
class Options:
    """What the person who starts a stack may choose."""

    state_dir: Path
    gateway_port: int | None = None
    import_roots: Sequence[Path] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for every service that replace the stack's own, such as a shorter QUANTRY_LEASE_S."""

    installation: Installation = field(default_factory=find_installation)


class Up(NamedTuple):
    """A stack that is up."""

    url: str
    addresses: dict[str, str]
    was_up: bool
    new_admin_key: str | None
    """Set once, when the key was made."""


class PartStatus(NamedTuple):
    """One part as ``quantry status`` shows it."""

    name: str
    state: str
    pid: int
    uptime_s: int
    address: str
    is_ready: bool


class Stack:
    """One embedded stack in one state directory. ``say`` gets a line for each thing that happens."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda _line: None) -> None:
        self._options = options
        self._say = say
        self.folders = choose_folders(options.state_dir)
        self._files = SupervisorFiles(self.folders)
        self._rpc = SupervisorRpc(self._files.socket)
        self._supervisor: subprocess.Popen[bytes] | None = None

    def up(self) -> Up:
        """Returns once every part answers; starts what is not up. Raises StackError, having stopped what it had started."""
        self._options.installation.check()
        self.folders.make()
        self._check_room()
        with locked(self.folders.state_dir):
            if self._rpc.is_up():
                layout = self._remembered_layout()
                if layout is not None and self._is_complete(layout):
                    return self._describe(layout, was_up=True, new_admin_key=None)
                self._say("the stack is only partly up: stopping it first")
            self._stop()
            try:
                return self._start()
            except OSError as error:
                self._stop()
                raise explain(error, self.folders.state_dir) from error
            except Interrupted as interrupt:
                self._stop()
                interrupt.outcome = "nothing was left running"
                raise
            except BaseException:
                self._stop()
                raise

    def down(self) -> bool:
        """Stops everything within 15 seconds; returns whether anything ran. Data stays."""
        if not self.folders.is_used():
            # Somebody removed it under a running stack, or it never was a stack's: then no lock file belongs in it.
            return end_processes(self.folders.state_dir) > 0
        with locked(self.folders.state_dir):
            return self._stop()

    def status(self) -> list[PartStatus]:
        """Returns every part as it is now; an empty list when nothing is up."""
        layout = self._remembered_layout() if self._rpc.is_up() else None
        if layout is None:
            return []
        programs = {program.name: program for program in self._rpc.programs()}
        rows = []
        for part in layout.parts():
            # A stack that an older version of this code started lacks the parts that came later.
            program = programs.get(part.name, Program(part.name, ProgramState.STOPPED, 0, 0))
            rows.append(PartStatus(part.name, program.state, program.pid, program.uptime_s, part.address, part.is_ready()))
        return rows

    def is_running(self) -> bool:
        """Tells whether the process manager of this stack answers."""
        return self._rpc.is_up()

    def log_of(self, part: str) -> Path:
        """Returns the log file of a part, of ``migrate``, ``bootstrap`` or ``supervisord``."""
        return self.folders.logs / f"{part}.log"

    def back_up(self, arguments: Sequence[str]) -> int:
        """Runs the backup's command against the stack, which must be up; returns its exit status."""
        layout = self._remembered_layout()
        if layout is None or not self._rpc.is_up():
            raise StackError(f"nothing is running for {self.folders.state_dir}: `quantry up` first, so that there is something to back up")
        return _run_here(layout.backup(arguments))

    def restore(self, arguments: Sequence[str]) -> int:
        """Starts the servers alone, has the backup's command restore into them, and stops them; returns its exit status.

        The stack must be down. The next start makes the keys of worker and gateway anew.
        """
        self._options.installation.check()
        self.folders.make()
        self._check_room()
        with locked(self.folders.state_dir):
            if self._rpc.is_up():
                raise StackError(f"the stack of {self.folders.state_dir} is up: stop it with `quantry down`, then restore")
            self._stop()
            try:
                layout = self._prepare()
                self._start_parts(layout.servers())
                status = _run_here(layout.backup(arguments))
                if status == 0:
                    # The restored database may know others than these files say; the admin's is a person's to look after.
                    save_secrets(self.folders.state_dir, layout.secrets.model_copy(update={"worker_token": None, "gateway_token": None}))
                return status
            finally:
                self._stop()

    def forget(self) -> None:
        """Removes everything the stack keeps, data and directory included. It must be down."""
        self.empty()
        with suppress(OSError):
            self.folders.state_dir.rmdir()

    def empty(self) -> None:
        """Removes everything the stack keeps, data included, but not its directory, which was there before. It must be down."""
        inside = list(self.folders.state_dir.iterdir()) if self.folders.state_dir.is_dir() else []
        for path in (*inside, *self.folders.outside):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _prepare(self) -> Layout:
        """Returns the layout, with its folders made and its process manager running."""
        ports = choose_ports(load_ports(self.folders.state_dir), self._options.gateway_port)
        save_ports(self.folders.state_dir, ports)
        layout = self._layout(load_secrets(self.folders.state_dir))
        layout.postgres.clear_stale_lock()
        for folder in (self._files.home, self._files.socket.parent, *layout.own_folders()):
            make_private(folder)
        self._write_launch_files(layout)
        write_private(self._files.config, render_config(self._files, layout.parts(), layout.installation.light_python))
        self._start_supervisor(layout)
        return layout

    def _start(self) -> Up:
        layout = self._prepare()
        self._start_parts(layout.servers())
        self._run(layout.migrate())
        secrets, new_admin_key = self._bootstrap(layout)
        layout = replace(layout, secrets=secrets)
        self._write_launch_files(layout)
        self._start_parts(layout.services())
        save_client_file(self.folders.state_dir, ClientFile(url=layout.url, api_key=secrets.admin_key or ""))
        return self._describe(layout, was_up=False, new_admin_key=new_admin_key)

    def _stop(self) -> bool:
        """Stops parts in order, then whatever is left by force; returns whether anything ran."""
        with uninterrupted():
            was_up = self._rpc.is_up()
            if was_up:
                self._say("stopping")
                self._stop_in_order(time.monotonic() + STOP_DEADLINE_S)
            num_left = end_processes(self.folders.state_dir)
            if self._supervisor is not None:
                self._supervisor.wait(SUPERVISOR_REAP_S)
            if num_left:
                self._say(f"ended {num_left} processes that were left over")
            left = find_processes(self.folders.state_dir)
            if left:
                raise StackError(f"these processes do not end: {', '.join(str(process.pid) for process in left)}; end them with kill -9")
            return was_up or num_left > 0

    def _stop_in_order(self, deadline: float) -> None:
        """Stops the parts and then the process manager, or gives up at the deadline: the rest is then ended by force."""
        try:
            for names in STOP_ORDER:
                self._rpc.stop(names)
                # supervisord notices the end of a child when it is asked something, else only once a second.
                while time.monotonic() < deadline and self._rpc.running(names):
                    time.sleep(0.05)
            self._rpc.shut_down()
        except StackError as error:
            self._say(str(error))
        while time.monotonic() < deadline and find_processes(self.folders.state_dir):
            time.sleep(0.05)

    def _layout(self, secrets: Secrets) -> Layout:
        ports = load_ports(self.folders.state_dir)
        if ports is None:
            raise StackError(f"{self.folders.state_dir} does not say which ports the stack uses; run `quantry down`, then `quantry up`")
        roots = [self._options.installation.examples, *self._options.import_roots]
        return Layout(
            folders=self.folders,
            installation=self._options.installation,
            ports=ports,
            secrets=secrets,
            import_roots=[root.resolve() for root in roots],
            inherited=os.environ,
            settings=self._options.settings,
        )

    def _remembered_layout(self) -> Layout | None:
        if load_ports(self.folders.state_dir) is None:
            return None
        return self._layout(load_secrets(self.folders.state_dir))

    def _is_complete(self, layout: Layout) -> bool:
        running = {program.name for program in self._rpc.programs() if program.state is ProgramState.RUNNING}
        return all(part.name in running and part.is_ready() for part in layout.parts())

    def _describe(self, layout: Layout, *, was_up: bool, new_admin_key: str | None) -> Up:
        return Up(layout.url, {part.name: part.address for part in layout.parts()}, was_up, new_admin_key)

    def _check_room(self) -> None:
        free_bytes = shutil.disk_usage(self.folders.state_dir).free
        if free_bytes < MIN_FREE_BYTES:
            raise StackError(
                f"the disk below {self.folders.state_dir} has {free_bytes // 1024**2} MB left and at least {MIN_FREE_BYTES // 1024**2} MB "
                "are needed; make room, or choose another disk with --state-dir"
            )

    def _write_launch_files(self, layout: Layout) -> None:
        for part in layout.parts():
            write_private(self._files.launch_file(part.name), part.launch.model_dump_json(indent=2) + "\n")

    def _start_supervisor(self, layout: Layout) -> None:
        command = [str(layout.installation.light_python), "-m", "supervisor.supervisord", "-c", str(self._files.config)]
        environment = layout.migrate().launch.environment
        with self._files.log.open("ab") as log:
            # Its own session: a Ctrl-C in the terminal reaches this command, which stops the parts in order.
            process = self._supervisor = subprocess.Popen(
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SUPERVISOR_START_S
        while not self._rpc.is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"the process manager did not start: {last_words(self._files.log)}; its log is {self._files.log}")
            time.sleep(0.05)

    def _start_parts(self, parts: Sequence[Part]) -> None:
        for part in parts:
            started = time.monotonic()
            part.prepare()
            self._rpc.start(part.name)
            self._wait_until_ready(part, started + part.ready_timeout_s)
            self._say(f"{part.name:<9} {time.monotonic() - started:5.1f} s   {part.address}")

    def _wait_until_ready(self, part: Part, deadline: float) -> None:
        first_pid = 0
        while not part.is_ready():
            program = self._rpc.program(part.name)
            first_pid = first_pid or program.pid
            has_ended = program.state not in {ProgramState.STARTING, ProgramState.RUNNING} or program.pid != first_pid
            if has_ended or time.monotonic() > deadline:
                what = "ended while it started" if has_ended else f"does not answer after {part.ready_timeout_s:.0f} s"
                log = self.log_of(part.name)
                raise StackError(f"{part.name} {what}: {last_words(log)}; its log is {log}")
            time.sleep(0.1)

    def _run(self, one_shot: OneShot) -> str:
        started = time.monotonic()
        log = self.log_of(one_shot.name)
        launch = one_shot.launch
        with log.open("ab") as output:
            try:
                finished = subprocess.run(
                    launch.command,
                    env=launch.environment,
                    cwd=launch.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    check=False,
                    timeout=one_shot.timeout_s,
                )
            except subprocess.TimeoutExpired:
                raise StackError(f"{one_shot.name} was not done after {one_shot.timeout_s:.0f} s; its log is {log}") from None
        if finished.returncode != 0:
            raise StackError(f"{one_shot.name} failed: {last_words(log)}; its log is {log}")
        self._say(f"{one_shot.name:<9} {time.monotonic() - started:5.1f} s")
        return finished.stdout.decode()

    def _bootstrap(self, layout: Layout) -> tuple[Secrets, str | None]:
        """Returns the secrets with all keys, and the admin key if it was made now."""
        made = _printed_keys(self._run(layout.bootstrap()))
        secrets = layout.secrets.model_copy(update=made)
        # A start that was killed between making a key and saving it: nobody has that key, so it is made anew.
        lost = [name for field_name, name in KEY_NAMES.items() if getattr(secrets, field_name) is None]
        if lost:
            made |= _printed_keys(self._run(layout.bootstrap(rotate=lost)))
            secrets = layout.secrets.model_copy(update=made)
        save_secrets(self.folders.state_dir, secrets)
        return secrets, made.get("admin_key")


def _run_here(launch: LaunchFile) -> int:
    """Runs a command in the foreground, with its words going where this one's go; returns its exit status."""
    return subprocess.run(launch.command, env=launch.environment, cwd=Path.cwd(), stdin=subprocess.DEVNULL, check=False).returncode


def _printed_keys(output: str) -> dict[str, str]:
    lines = output.strip().splitlines()
    printed: dict[str, str] = json.loads(lines[-1]) if lines else {}
    return {name: printed[name] for name in KEY_NAMES if name in printed}


def explain(error: OSError, state_dir: Path) -> StackError:
    """Returns the sentence for an operating-system error in the state directory."""
    where = error.filename or state_dir
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StackError(f"the disk is full ({where}); make room, or choose another disk with --state-dir")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StackError(f"{where} may not be written ({error.strerror}); choose a directory you own with --state-dir")
    return StackError(f"the operating system refused something ({error}); see {state_dir / 'logs'}")
