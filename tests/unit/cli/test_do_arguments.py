"""Arguments of `do` that are wrong: said, with code 125, and nothing made, changed or removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bundle import CASEMATE, TIMEOUT_S
from casemate.cli.commands import do
from casemate.cli.main import main
from casemate.cli.options import parse

OWN_FAILURE = 125


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a b", ".hidden", ""])
def test_a_name_that_is_no_id_makes_nothing(name: str, tmp_path: Path) -> None:
    root = tmp_path / "state"

    assert main(["--root", str(root), "do", "--name", name, "--", "true"]) == OWN_FAILURE
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_leaves_the_other_sandbox_its_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").mkdir()
    file = tmp_path / ".layer-taken" / "upper" / "file"
    file.parent.mkdir(parents=True)
    file.touch()

    assert main(["--root", str(tmp_path), "do", "--name", "taken", "--", "true"]) == OWN_FAILURE
    assert "'taken' already exists" in capsys.readouterr().err
    assert file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pids", "-3"], "--pids: expected 0 (no limit) or more"),
        (["--pids", "99999999999"], "pids: expected 1 to 4194304"),
        (["--cpus", "0.001"], "cpus: expected 0.01"),
        (["--memory", "infM"], "--memory: expected a size"),
        (["--memory", "1e30"], "memory: expected at most"),
        (["--env", "=x"], "--env: expected NAME=VALUE or NAME"),
        (["--rootfs", "/etc/passwd"], "/etc/passwd is not a directory"),
        (["--rootfs", "/no/such"], "/no/such is not a directory"),
        (["--rootfs", "debian:12"], "debian:12 is not a directory (images are not fetched"),
        (["--commit", "/etc/passwd"], "--commit: /etc/passwd is not a directory"),
        (["--commit", "/etc/passwd/out"], "--commit: /etc/passwd is not a directory"),
        (["-it"], "option -i in -it is unknown"),
        (["--hypervisor", "uml"], "--hypervisor needs --isolation=microvm"),
        (["--rootfs", "/usr", "--root-image", "memory"], "--root-image needs --isolation=microvm"),
    ],
)
def test_a_wrong_value_is_named(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "do", *arguments, "--", "true"]) == OWN_FAILURE
    assert said in capsys.readouterr().err


def test_a_variable_that_is_not_set_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(do.Globals, "root", str(tmp_path))
    monkeypatch.setenv("SET", "1")
    monkeypatch.delenv("UNSET", raising=False)

    options = do._options(parse(["--env", "SET", "--env", "UNSET", "--", "true"], do.OPTIONS, interspersed=False))

    assert options.environment["SET"] == "1"
    assert "UNSET" not in options.environment


def test_a_layer_that_another_start_has_made_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two starts of one name the second comes between the other's layer and its state."""
    file = tmp_path / ".layer-both" / "upper" / "file"
    file.parent.mkdir(parents=True)
    file.touch()

    assert main(["--root", str(tmp_path), "do", "--name", "both", "--", "true"]) == OWN_FAILURE
    assert "'both' already exists" in capsys.readouterr().err
    assert file.exists()


def test_a_layer_that_a_killed_start_left_is_not_in_the_way(tmp_path: Path) -> None:
    layer = tmp_path / ".layer-again"
    (layer / "upper" / "left").mkdir(parents=True)
    os.utime(layer, (0, 0))
    command = [CASEMATE, "--root", str(tmp_path), "do", "--name", "again", "--", "true"]
    assert subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode == 0
    assert not layer.exists()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to lend ids and set limits")


@needs_root
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "no-such-user"], "'no-such-user' is not in /etc/passwd"),
        (["--user", "99999999"], "no user id 99999999, only 0 to 65535"),
        (["--memory", "1K"], "the limit of 1024 bytes is too small"),
    ],
)
def test_what_no_sandbox_can_have_is_named(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "do", *arguments, "--", "true"]) == OWN_FAILURE
    captured = capsys.readouterr().err
    assert said in captured
    assert captured.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith((".next-ids", ".collected"))] == []


@needs_root
@pytest.mark.parametrize(("user", "printed"), [("root", "0:0"), ("nobody", "65534:65534"), ("nobody:daemon", "65534:1"), ("7", "7:0")])
def test_a_user_by_name(user: str, printed: str, tmp_path: Path) -> None:
    command = [CASEMATE, "--root", str(tmp_path), "do", "--user", user, "--", "sh", "-c", "echo $(id -u):$(id -g)"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout == f"{printed}\n"
