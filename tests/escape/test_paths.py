"""`..` and links in the paths of a configuration, and in the image below them, stay inside of the root."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle import Bundle

UP = "/.." * 20


@pytest.fixture(params=["parents", "absolute link", "relative link", "link to a parent"])
def way_out(request: pytest.FixtureRequest, bundle: Bundle, canary: Path) -> str:
    """A path in the container that names the canary directory if it is followed on the host."""
    if request.param == "parents":
        return f"{UP}{canary}"
    link = bundle.rootfs / "out"
    if request.param == "link to a parent":
        link.symlink_to(bundle.directory)
        return "/out/canary"
    link.symlink_to(canary if request.param == "absolute link" else f"..{UP}{canary}")
    return "/out"


@pytest.fixture(params=[True, False], ids=["present", "missing"])
def twin(request: pytest.FixtureRequest, bundle: Bundle, canary: Path) -> bool:
    """Whether the same path exists in the root, too."""
    if request.param:
        inside = bundle.rootfs / str(canary)[1:]
        inside.mkdir(parents=True)
        (inside / "file").write_text("of the image")
    return bool(request.param)


@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_masked_and_readonly_paths(bundle: Bundle, canary: Path, way_out: str, twin: bool, field: str) -> None:
    bundle.config["linux"][field] = [f"{way_out}/file"]
    inside = bundle.shell(f"cat {canary}/file; echo x > {canary}/file")
    assert "untouched" not in inside.stdout
    (canary / "file").write_text("untouched")  # not read-only on the host
    if twin:
        assert (bundle.rootfs / str(canary)[1:] / "file").read_text() == "of the image"


def test_devices(bundle: Bundle, way_out: str, twin: bool) -> None:
    bundle.config["linux"]["devices"] = [{"path": f"{way_out}/device", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}]
    bundle.run("true")


def test_mount_destination(bundle: Bundle, way_out: str, twin: bool, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    for fstype in ("tmpfs", "bind"):
        bundle.config["mounts"].append({"destination": f"{way_out}/{fstype}", "type": fstype, "source": str(tmp_path / "volume")})
    bundle.run("true")


def test_working_directory(bundle: Bundle, way_out: str, twin: bool) -> None:
    bundle.config["process"]["cwd"] = f"{way_out}/made"
    done = bundle.shell("cd ..; cat file")
    assert "untouched" not in done.stdout


def test_program(bundle: Bundle, canary: Path, way_out: str) -> None:
    assert bundle.run(f"{way_out}/file").returncode != 0


def test_id_is_no_path(bundle: Bundle, canary: Path) -> None:
    for name in ("../canary", "..", ".", "/", "a/b", f"{canary}", "", "a\nb", "-", "--help/../x", "x" * 5000):
        bundle.write()
        for words in (["create", "--bundle", str(bundle.directory)], ["delete", "--force"], ["state"]):
            done = bundle.verb(*words, "--", name)
            assert "Traceback" not in done.stderr
            assert done.returncode != 0 or words[0] == "delete" or name == "-"


def test_cgroups_path_stays_in_the_hierarchy(bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["linux"]["cgroupsPath"] = f"/casemate-test{UP}{tmp_path}/{bundle.id}"
    bundle.run("true")
    assert not (tmp_path / bundle.id).exists()
