"""The SDK's sandboxes whose root is an image."""

from __future__ import annotations

from pathlib import Path

import pytest

import casemate
from bundle import make_rootfs
from casemate import Sandbox
from casemate.errors import SandboxError


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = make_rootfs(tmp_path / "root")
    (path / "home").mkdir()
    (path / "given").write_text("of the host\n")
    return path


@pytest.mark.parametrize(("hypervisor", "mode"), [("qemu", "auto"), ("uml", "64M")])
def test_a_sandboxs_files_are_over_an_image(tmp_path: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch, hypervisor: str, mode: str) -> None:
    """By itself where that is sooner, else when asked for; the directory stays as it is."""
    monkeypatch.setenv("CASEMATE_HYPERVISOR", hypervisor)
    with Sandbox.create(str(rootfs), isolation="microvm", root_image=mode, state_root=str(tmp_path / "state")) as sandbox:
        assert sandbox.files.read("/given") == "of the host\n"
        sandbox.files.write("/given", "of the guest\n")
        sandbox.files.write("made/file", b"\0" * 100_000)
        assert sandbox.files.read("made/file", format="bytes") == bytes(100_000)
        seen = sandbox.commands.run("mount | grep ' on / '; cat /given; rm /given")
        assert "lowerdir=/image" in seen.stdout
        assert "of the guest\n" in seen.stdout
        assert not sandbox.files.exists("/given")
        assert [entry.name for entry in sandbox.files.list("made")] == ["file"]
    assert (rootfs / "given").read_text() == "of the host\n"
    assert list((rootfs / "home").iterdir()) == []


def test_one_program_on_an_image_and_what_is_refused(tmp_path: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASEMATE_HYPERVISOR", "qemu")
    state = str(tmp_path / "state")
    result = casemate.run("mount | grep ' on / '; echo new > /given", rootfs=str(rootfs), isolation="microvm", state_root=state)
    assert (result.exit_code, "lowerdir=/image" in result.stdout) == (0, True), result.stderr
    assert (rootfs / "given").read_text() == "of the host\n"
    with pytest.raises(SandboxError, match="expected no, memory, or the size"):
        casemate.run("true", rootfs=str(rootfs), isolation="microvm", root_image="3", state_root=state)
    for words in ({"isolation": "namespaces", "rootfs": str(rootfs)}, {"isolation": "microvm"}):
        with pytest.raises(SandboxError, match="root_image: needs a rootfs"):
            casemate.run("true", root_image="memory", state_root=state, **words)
