"""One connection to a D-Bus daemon: calls, and the signals that come meanwhile. Blocking, with a deadline."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from casemate.host.cgroup.dbus_wire import MAX_MESSAGE, DbusError, Reader, marshal

_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
# Header fields (D-Bus Specification, "Header Fields").
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_MAX_AUTH_LINE = 4096
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class Message:
    """kind: 2 return, 3 error, 4 signal.   reply_serial: of the call it answers.   member: of a signal.   body: its values."""

    def __init__(self, kind: int, fields: dict[int, Any], body: list[Any]) -> None:
        self.kind = kind
        self.reply_serial = fields.get(_REPLY_SERIAL, 0)
        self.member = str(fields.get(_MEMBER, ""))
        self.error_name = str(fields.get(_ERROR_NAME, ""))
        self.body = body


class Bus:
    """A connection, authenticated as this process's user. A context: closes itself. Raises OSError and DbusError throughout."""

    def __init__(self, path: str, *, timeout_s: float = 30.0) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._serial = 0
        self._signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._limit()
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
            self._authenticate()
            self.call(*_BUS, "Hello")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any) -> list[Any]:
        """Calls a method and returns the answer's values. Raises DbusError with the error's name if it is refused."""
        self._serial += 1
        serial = self._serial
        fields = [(_PATH, ("o", path)), (_INTERFACE, ("s", interface)), (_MEMBER, ("s", member))]
        fields.append((_DESTINATION, ("s", destination)))
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        body = marshal(signature, list(values))
        header = marshal("yyyyuua(yv)", [ord("l"), _CALL, 0, 1, len(body), serial, fields])
        self._limit()
        self._socket.sendall(header + bytes(-len(header) % 8) + body)
        while True:
            message = self._receive()
            if message.kind == _SIGNAL:
                self._signals.append(message)
            elif message.reply_serial == serial:
                if message.kind == _ERROR:
                    text = str(message.body[0]) if message.body else message.error_name
                    raise DbusError(text, message.error_name)
                return message.body

    def subscribe(self, rule: str) -> None:
        """Asks the daemon for the signals that match (D-Bus Specification, "Match Rules")."""
        self.call(*_BUS, "AddMatch", "s", rule)

    def next_signal(self) -> Message:
        """The next signal, oldest first; waits."""
        while not self._signals:
            message = self._receive()
            if message.kind == _SIGNAL:
                self._signals.append(message)
        return self._signals.pop(0)

    def _limit(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the bus did not answer in time")
        self._socket.settimeout(left_s)

    def _authenticate(self) -> None:
        """SASL EXTERNAL: the daemon knows the user from the socket's credentials; the text only repeats it."""
        identity = str(os.geteuid()).encode().hex()
        self._socket.sendall(b"\0AUTH EXTERNAL " + identity.encode() + b"\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            self._limit()
            piece = self._socket.recv(1)  # a byte at a time: what follows belongs to messages
            if not piece or len(line) > _MAX_AUTH_LINE:
                raise DbusError("the bus refused the connection")
            line += piece
        if not line.startswith(b"OK "):
            raise DbusError(f"the bus refused this user: {line.decode('utf-8', 'replace').strip()}")
        self._socket.sendall(b"BEGIN\r\n")

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._limit()
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise DbusError("the bus closed the connection")
            data += piece
        return bytes(data)

    def _receive(self) -> Message:
        start = self._read(16)
        endian, kind, _, version, body_length, _, fields_length = struct.unpack("<BBBBIII", start)
        if endian != ord("l") or version != 1:
            raise DbusError("the bus speaks another byte order or version")
        padded = fields_length + -fields_length % 8
        if padded + body_length > MAX_MESSAGE:
            raise DbusError("message is longer than 1 MiB")
        rest = self._read(padded + body_length)
        # The array of fields starts at 12, where its alignment puts its first item at 16: so its bytes are aligned as if from 0.
        pairs = Reader(struct.pack("<I", fields_length) + bytes(4) + rest[:fields_length]).read_all("a(yv)")[0]
        fields = dict(pairs)
        body = Reader(rest[padded:]).read_all(str(fields.get(_SIGNATURE, "")))
        return Message(kind, fields, body)
