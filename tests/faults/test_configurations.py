"""A bundle that is no bundle: one line that names the file and the field."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from clear_error import assert_clear

from bundle import Bundle

BROKEN = {
    "empty": b"",
    "no json": b"this is no JSON",
    "cut": b'{"ociVersion": "1.0.2", "process": {',
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep and closed": b'{"ociVersion": "1.0.2", "annotations": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no utf-8": b'{"ociVersion": "\xff\xfe"}',
    "utf-16": "{}".encode("utf-16"),
    "not a number": b'{"ociVersion": NaN}',
    "trailing": b"{} {}",
    "zeros": bytes(5000),
    "big": b'{"annotations": "' + b"x" * 10_000_000,
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("verb", ["create", "exec", "update"])
def test_file_that_is_no_configuration(bundle: Bundle, verb: str, kind: str) -> None:
    name = "config.json" if verb == "create" else "given.json"
    (bundle.directory / name).write_bytes(BROKEN[kind])
    assert_clear(load(bundle, verb, name), name)


def load(bundle: Bundle, verb: str, name: str) -> subprocess.CompletedProcess[str]:
    if verb == "create":
        return bundle.verb("create", "--bundle", str(bundle.directory), bundle.id)
    bundle.create("true")
    if verb == "exec":
        return bundle.verb("exec", "--process", name, bundle.id)
    return bundle.verb("update", "--resources", name, bundle.id)


@pytest.mark.parametrize("kind", ["missing", "directory", "link to itself"])
@pytest.mark.parametrize("verb", ["create", "exec", "update"])
def test_file_that_is_no_file(bundle: Bundle, verb: str, kind: str) -> None:
    name = "config.json" if verb == "create" else "given.json"
    path = bundle.directory / name
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "link to itself":
        path.symlink_to(path)
    assert_clear(load(bundle, verb, name), name)


def test_file_without_end(bundle: Bundle) -> None:
    (bundle.directory / "config.json").unlink()
    (bundle.directory / "config.json").symlink_to("/dev/zero")
    assert_clear(load(bundle, "create", "config.json"), "config.json", "33554432 bytes")


@pytest.mark.parametrize("place", ["/no/such/bundle", "/etc/passwd", "a\nb", ""])
def test_bundle_that_is_none(bundle: Bundle, place: str) -> None:
    (bundle.directory / "config.json").unlink()
    assert_clear(bundle.verb("create", "--bundle", place, bundle.id), "config.json")


@pytest.mark.parametrize("kind", ["missing", "file", "link to itself"])
def test_root_that_is_none(bundle: Bundle, kind: str) -> None:
    bundle.config["root"]["path"] = "other"
    if kind == "file":
        (bundle.directory / "other").touch()
    elif kind == "link to itself":
        (bundle.directory / "other").symlink_to("other")
    assert_clear(bundle.run("true"), "other")


def test_ten_megabytes_of_configuration(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"filler": "x" * 10_000_000}
    assert bundle.run("true").returncode == 0
    bundle.config["process"]["args"] = ["echo", "x" * 10_000_000]
    assert_clear(bundle.run())


FIELDS: list[tuple[str, object]] = [
    ("process.args[0]", 5),
    ("process.cwd", "relative"),
    ("process.user.uid", -1),
    ("process.user.gid", 1 << 33),
    ("process.capabilities.bounding[0]", "CAP_OF_MINE"),
    ("process.rlimits[0].type", "RLIMIT_OF_MINE"),
    ("process.terminal", "yes"),
    ("root", "rootfs"),
    ("root.path", "a\0b"),
    ("mounts[0].destination", "/a\0b"),
    ("mounts[0].options", "ro"),
    ("linux.namespaces[0].type", "mine"),
    ("linux.namespaces[0].path", "/no\0where"),
    ("linux.maskedPaths[0]", "/a\0b"),
    ("linux.resources.devices[0].type", "z"),
    ("linux.rootfsPropagation", "loud"),
    ("linux.cgroupsPath", "/a\0b"),
    ("hostname", ["a"]),
    ("process.env[0]", "A=\0"),
    ("ociVersion", 1.0),
]


def parse(path: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in path.replace("]", "").replace("[", ".").split(".")]


def put(config: dict[str, Any], keys: list[str | int], value: object) -> None:
    target: Any = config
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value


@pytest.mark.parametrize(("path", "value"), FIELDS, ids=[path for path, _ in FIELDS])
def test_field_of_another_type_or_value_is_named(bundle: Bundle, path: str, value: object) -> None:
    put(bundle.config, parse(path), value)
    assert_clear(bundle.run(), "config.json", path)


STRANGE = [None, True, 0, -1, 1.5, 1 << 70, "", "\0", "\ud800", "x" * 5000, "../..", [], {}, [None], {"a": None}, [[]], [5], ["\0"]]


def places(value: Any, keys: list[str | int]) -> Iterator[list[str | int]]:
    if keys:
        yield keys
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, [*keys, key])


def test_strange_values_anywhere(bundle: Bundle) -> None:
    """A seeded sample of all pairs of a place and a strange value."""
    original = bundle.config
    everything = [(keys, value) for keys in places(original, []) for value in STRANGE]
    for keys, value in random.Random(11).sample(everything, int(os.environ.get("CASEMATE_STRANGE", "150"))):
        bundle.config = deepcopy(original)
        put(bundle.config, keys, value)
        done = bundle.run()
        bundle.close()
        assert "Traceback" not in done.stderr, (keys, value)
        assert not done.returncode or done.stderr, (keys, value)
        assert not Path(bundle.state, bundle.id).exists(), (keys, value)
