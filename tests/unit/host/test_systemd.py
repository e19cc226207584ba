"""The systemd driver against a bus that answers as systemd does, and D-Bus's wire format against a real daemon."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import CgroupError
from casemate.host.cgroup import systemd
from casemate.host.cgroup.dbus import Bus
from casemate.host.cgroup.dbus_wire import DbusError, Reader, marshal, split_signature


class FakeSystemd(threading.Thread):
    """Takes one connection after another, records the calls and answers them; a started unit's job ends as `result` says."""

    def __init__(self, path: Path, result: str = "done") -> None:
        super().__init__(daemon=True)
        self.calls: list[tuple[str, list[Any]]] = []
        self.result = result
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                assert stream.readline() == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"
                stream.write(b"OK 0123456789abcdef\r\n")
                stream.flush()
                assert stream.readline() == b"BEGIN\r\n"
                while self._serve(stream):
                    stream.flush()

    def _serve(self, stream: Any) -> bool:
        start = stream.read(16)
        if len(start) < 16:
            return False
        _, _, _, _, body_length, serial, fields_length = struct.unpack("<BBBBIII", start)
        rest = stream.read(fields_length + -fields_length % 8 + body_length)
        fields = dict(Reader(struct.pack("<II", fields_length, 0) + rest[:fields_length]).read_all("a(yv)")[0])
        body = Reader(rest[fields_length + -fields_length % 8 :]).read_all(fields.get(8, ""))
        self.calls.append((fields[3], body))
        if fields[3] == "StartTransientUnit":
            # The signal may come before the answer that tells the job's name: the client has to keep it.
            self._send(stream, 4, [(1, ("o", "/m")), (2, ("s", "m.i")), (3, ("s", "JobRemoved"))], "uoss", [7, "/job/7", body[0], self.result])
            self._send(stream, 2, [(5, ("u", serial))], "o", ["/job/7"])
        elif fields[3] == "StopUnit":
            self._send(stream, 3, [(5, ("u", serial)), (4, ("s", "org.freedesktop.systemd1.NoSuchUnit"))], "s", ["not loaded"])
        else:
            self._send(stream, 2, [(5, ("u", serial))], "", [])
        return True

    def _send(self, stream: Any, kind: int, fields: list[Any], signature: str, values: list[Any]) -> None:
        if signature:
            fields = [*fields, (8, ("g", signature))]
        body = marshal(signature, values)
        header = marshal("yyyyuua(yv)", [ord("l"), kind, 0, 1, len(body), 9, fields])
        stream.write(header + bytes(-len(header) % 8) + body)


@pytest.fixture
def bus_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bus"
    monkeypatch.setattr(systemd, "_SYSTEM_BUS", str(path))
    monkeypatch.setattr(systemd, "_BOOTED", str(tmp_path))
    return path


@pytest.fixture
def fake(bus_path: Path) -> Iterator[FakeSystemd]:
    server = FakeSystemd(bus_path)
    server.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    server.join(5)


def scope(*, is_v2: bool = True) -> systemd.Scope:
    return systemd.Scope("machine.slice", "libpod-1.scope", is_user=False, is_v2=is_v2)


def test_start_tells_slice_process_and_limits(fake: FakeSystemd) -> None:
    one = scope()
    one.check()
    one.start(42, {"memory": {"limit": 1000, "swap": 1500}, "cpu": {"shares": 1024, "quota": 15500, "period": 100000}, "pids": {"limit": -1}})
    names = [name for name, _ in fake.calls]
    assert names == ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]
    unit, how, properties, auxiliary = fake.calls[-1][1]
    assert (unit, how, auxiliary) == ("libpod-1.scope", "replace", [])
    told = dict(properties)
    assert told["PIDs"] == [42]
    assert told["Delegate"] == 1
    assert told["Slice"] == "machine.slice"
    assert (told["MemoryMax"], told["MemorySwapMax"], told["CPUWeight"], told["TasksMax"]) == (1000, 500, 100, 2**64 - 1)
    assert told["CPUQuotaPerSecUSec"] == 160000  # 15.5 %, rounded up to a whole percent
    assert one.started


def test_v1_limits_have_v1_names() -> None:
    told = dict(scope(is_v2=False).properties(1, {"memory": {"limit": 5, "swap": 9}, "cpu": {"shares": 512}}))
    assert told["MemoryLimit"] == ("t", 5)
    assert told["CPUShares"] == ("t", 512)
    assert "MemorySwapMax" not in told


def test_failed_job_is_an_error(fake: FakeSystemd) -> None:
    fake.result = "failed"
    with pytest.raises(CgroupError, match="the job ended with 'failed'"):
        scope().start(42, {})


def test_stop_of_a_unit_that_is_gone(fake: FakeSystemd) -> None:
    scope().stop()
    assert [name for name, _ in fake.calls] == ["Hello", "StopUnit", "ResetFailedUnit"]


def test_no_bus_is_an_error_with_a_remedy(bus_path: Path) -> None:
    with pytest.raises(CgroupError, match="cgroupfs"):
        scope().check()


def test_state_round_trip() -> None:
    assert systemd.Scope.from_state(scope().to_state()).to_state() == scope().to_state()


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.lists(st.integers(0, 2**32 - 1)), st.integers(0, 2**64 - 1))
def test_wire_round_trip(text: str, numbers: list[int], large: int) -> None:
    values = [text, numbers, large, [("k", ("as", [text])), ("t", ("t", large))]]
    signature = "saut" + "a(sv)"
    read = Reader(marshal(signature, values)).read_all(signature)
    assert read == [text, numbers, large, [("k", [text]), ("t", large)]]


@given(st.binary(max_size=64), st.sampled_from(["s", "a(sv)", "v", "as", "a{sv}", "aau", "g(yt)"]))
def test_hostile_bytes_are_an_error_or_values(data: bytes, signature: str) -> None:
    try:
        Reader(data).read_all(signature)
    except DbusError:
        pass


@pytest.mark.parametrize("signature", ["a", "(s", "z", "a(", "(" * 40 + ")" * 40])
def test_malformed_signatures(signature: str) -> None:
    with pytest.raises(DbusError):
        split_signature(signature)


def test_real_daemon(tmp_path: Path) -> None:
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        pytest.skip("no dbus-daemon on this host")
    address = f"unix:path={tmp_path}/bus"
    command = [daemon, "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            with Bus(f"{tmp_path}/bus", timeout_s=5) as bus:
                to_bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
                assert bus.call(*to_bus, "RequestName", "su", "casemate.Test", 0) == [1]
                assert "casemate.Test" in bus.call(*to_bus, "ListNames")[0]
                bus.subscribe("type='signal',member='NameOwnerChanged'")
                with pytest.raises(DbusError) as caught:
                    bus.call("no.such.Name", "/", "a.b", "C")
                assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
        finally:
            process.kill()
