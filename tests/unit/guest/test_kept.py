"""What is kept for sooner starts, and the commands that list and remove it, and kernels."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from casemate.cli.main import main
from casemate.guest import images, kept


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each, used 1, 10 and 100 days ago; a template that somebody was killed over, and a disk."""
    path = tmp_path / "guest"
    monkeypatch.setenv("CASEMATE_GUEST", str(path))
    monkeypatch.setattr(images, "_found", {})
    for name in ("images", "templates/qemu-0123456789", "templates/casemate-abc.new", "initramfs"):
        (path / name).mkdir(parents=True)
    (path / "templates/.lock").touch()
    (path / "templates/.failed").write_text("why")
    (path / "templates/qemu-0123456789/memory").write_bytes(b"m" * 8192)
    (path / "initramfs/uml-12-34.cpio").write_bytes(b"a" * 4096)
    (path / "images/.disk-999999999").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    image = Path(images.find_or_make(str(tree)))
    now = image.stat().st_mtime
    for file, days in ((image, 1), (path / "templates/qemu-0123456789", 10), (path / "initramfs/uml-12-34.cpio", 100)):
        os.utime(file, (now, now - days * 86400))
    return path


def names() -> list[str]:
    return [one.name for one in kept.everything()]


def test_all_is_listed_with_size_and_origin(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", "--json"]) == 0
    image, template, agent = json.loads(capsys.readouterr().out)
    assert (image["kind"], image["origin"], image["path"]) == ("root image", str(tmp_path / "tree"), f"{store}/images/{image['name']}.erofs")
    assert (template["kind"], template["name"], template["origin"]) == ("template", "qemu-0123456789", "")
    assert 8192 <= template["bytes"] < 65536
    assert (agent["kind"], agent["name"]) == ("agent", "uml-12-34.cpio")
    assert main(["cache", "list"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"1 d ago  +{re.escape(str(tmp_path))}/tree\n", shown)
    assert "10 d ago" in shown
    assert shown.endswith(" in all\n")


def test_one_is_removed_by_the_beginning_of_its_name(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing goes if one of them is not there, or could be several."""
    image = names()[0]
    for wrong in ("nonesuch", "qemu-", ""):
        assert main(["cache", "remove", image, wrong]) == 1
        assert "cache list" in capsys.readouterr().err
    assert len(names()) == 3
    assert main(["cache", "remove", image[:6], "qemu-0"]) == 0
    assert capsys.readouterr().out == f"{image}\nqemu-0123456789\n"
    assert names() == ["uml-12-34.cpio"]


def test_prune_removes_what_was_not_used_lately(store: Path) -> None:
    assert main(["cache", "prune", "--unused", "30"]) == 0
    assert len(names()) == 2
    assert main(["cache", "prune", "--unused=x"]) == 1


def test_prune_removes_all_and_what_makers_left(store: Path) -> None:
    """But not from under one who is at work."""
    (store / "initramfs/uml-12-35.cpio.999999999").touch()
    at_work = store / f"initramfs/uml-12-36.cpio.{os.getpid()}"
    at_work.touch()
    assert main(["cache", "prune"]) == 0
    assert names() == []
    assert list((store / "initramfs").iterdir()) == [at_work]
    assert not (store / "templates/casemate-abc.new").exists()
    assert not (store / "images/.disk-999999999").exists()
    assert (store / "templates/.failed").exists()


def test_an_empty_store_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path / "nowhere"))
    assert [main(["cache", "list"]), main(["cache", "prune"])] == [0, 0]
    assert main(["cache"]) == 1
    assert main(["cache", "list", "NAME"]) == 1


def test_a_kernel_is_removed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CASEMATE_GUEST", str(tmp_path))
    for name in ("cloud", "other"):
        (tmp_path / "kernels" / name).mkdir(parents=True)
        (tmp_path / "kernels" / name / "kernel.json").write_text("{}")
    assert main(["kernel", "remove", "cloud"]) == 0
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == ["other"]
    for name in ("cloud", "../kernels", ".", "uml"):
        assert main(["kernel", "remove", name]) == 1
    assert "apt-get remove user-mode-linux" in capsys.readouterr().err
    assert main(["kernel", "remove"]) == 1
    assert (tmp_path / "kernels/other/kernel.json").exists()
