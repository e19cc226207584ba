"""What this host can do, and what to change: the rows of `casemate doctor`."""

from __future__ import annotations

import os
import sys
import time

from casemate.configuration import configured
from casemate.errors import CasemateError, HostError
from casemate.host.probe import probe
from casemate.hypervisor import registry as hypervisors
from casemate.isolation import registry
from casemate.isolation.engine_process import engine_path
from casemate.report.kernel_rows import kernel_rows
from casemate.report.row import MISSING, OK, Row, either
from casemate.report.sandbox import sandbox

_OLDEST_PYTHON = (3, 11)
_TRUE = "/bin/true"


def default_isolation() -> str:
    """What a sandbox gets that names none. Raises SpecError for a configuration file that is wrong."""
    return str(configured("isolation") or registry.DEFAULT)


def host_rows(state_root: str) -> list[Row]:
    """The kernel's rows, then those of the installation."""
    return [*kernel_rows(probe(), _existing(state_root)), _engine(), _python(), _state_directory(state_root)]


def isolation_rows(state_root: str, default: str) -> list[Row]:
    """One row per isolation: what its own probe says and, of the default, how it was to start a sandbox."""
    rows = []
    for name in registry.NAMES:
        verdict = registry.get(name).probe()
        row = Row(f"isolation {name}", OK if verdict.ok else MISSING, verdict.reason, verdict.remedy)
        rows.append(_tried(row, name, state_root) if verdict.ok and name == default else row)
    return rows + _hypervisor_rows()


def _hypervisor_rows() -> list[Row]:
    """One row per hypervisor; that of the one that guests get says why."""
    try:
        choice = hypervisors.choose()
        chosen, why = choice.hypervisor.name, f"chosen: {choice.why}"
    except HostError:
        chosen, why = "", ""  # the rows say what each lacks
    rows = []
    for name in hypervisors.order():
        hypervisor = hypervisors.get(name)
        verdict = hypervisor.probe()
        said = [why if name == chosen else verdict.reason, hypervisor.remark() if verdict.ok else ""]
        rows.append(Row(f"hypervisor {name}", OK if verdict.ok else MISSING, "; ".join(filter(None, said)), verdict.remedy))
    return rows


def _tried(row: Row, name: str, state_root: str) -> Row:
    """The default's row after a sandbox was started: a probe only looks at parts."""
    began = time.monotonic()
    try:
        _start(name, state_root)
    except (CasemateError, OSError) as error:
        remedy = error.remedy if isinstance(error, HostError) else ""
        return Row(row.name, MISSING, f"the default; a sandbox does not start: {error}", remedy or "see the rows above", needed=True)
    return Row(row.name, OK, f"the default; a sandbox ran {_TRUE} in {(time.monotonic() - began) * 1000:.0f} ms", needed=True)


def _start(isolation: str, state_root: str) -> None:
    with sandbox([_TRUE], state_root=state_root, isolation=isolation) as running:
        status = running.wait(30)
        if status is None or status.shell_code != 0:
            raise CasemateError(f"{_TRUE} ended with {status.shell_code}" if status else f"{_TRUE} did not end")


def _engine() -> Row:
    try:
        return Row("engine", OK, engine_path(), needed=True)
    except HostError as error:
        return Row("engine", MISSING, error.reason, error.remedy, needed=True)


def _python() -> Row:
    text = f"{sys.version.split()[0]} ({sys.executable})"
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    return either("Python", sys.version_info >= _OLDEST_PYTHON, why=text, otherwise=text, remedy=f"use Python {wanted} or newer", needed=True)


def _existing(path: str) -> str:
    """The directory, or the nearest above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _state_directory(path: str) -> Row:
    try:
        os.makedirs(path, 0o711, exist_ok=True)
        is_ok, why = os.access(path, os.W_OK | os.X_OK), "it cannot be written"
    except OSError as error:
        is_ok, why = False, f"it cannot be made: {error.strerror}"
    remedy = "name another with --root, or set XDG_RUNTIME_DIR"
    return either("state directory", is_ok, why=path, otherwise=f"{path}: {why}", remedy=remedy, needed=True)
