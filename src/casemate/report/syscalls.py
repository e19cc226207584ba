"""How often a container's programs made which system call: the table of `casemate events --syscalls`."""

from __future__ import annotations

HEAD = ["CALL", "CALLS", "ERRORS", "ENOSYS", "TIME ms", "us/CALL", "NOTE"]


def cells(row: dict[str, object]) -> list[str]:
    """A call's row. Time is of the calls since the first such question, and leaves out what a call waited."""
    timed, time_ns = row["timed"], row["time_ns"]
    assert isinstance(timed, int)
    assert isinstance(time_ns, int)
    time = [f"{time_ns / 1e6:.3f}", f"{time_ns / timed / 1e3:.1f}"] if timed else ["", ""]
    return [str(row["name"]), str(row["calls"]), str(row["errors"] or ""), str(row["refused"] or ""), *time, str(row["note"])]
