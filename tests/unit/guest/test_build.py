"""`casemate kernel build`, step by step, with programs that only pretend to compile."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from casemate.cli.commands import kernel as command
from casemate.errors import HostError, UsageError
from casemate.guest import build, configuration, kernels, pvm, source


def built(log: Path, name: str = "casemate", *fragments: Path, **options: bool) -> tuple[kernels.Kernel, bool]:
    return build.build(name, [str(path) for path in fragments], source.from_archive(str(log / "linux.tar")), lambda text: None, **options)


def made(log: Path) -> list[str]:
    return (log / "made").read_text().split()


def test_a_kernel_comes_into_the_store_with_what_it_was_made_from(log: Path) -> None:
    kernel, is_new = built(log)
    assert (is_new, kernel.name, kernel.release, kernel.modules, kernel.steps) == (True, "casemate", "6.1.9-casemate", [], 1)
    assert Path(kernel.image).read_bytes().startswith(b"\x7fELF")
    assert "CONFIG_VIRTIO_FS=y\n" in Path(kernel.path, "config").read_text()
    assert kernels.verify(kernel) == []
    Path(kernel.path, "config").write_text("CONFIG_MODULES=y\n")
    assert kernels.verify(kernel) == ["config: its content is another"]


def test_what_was_built_already_is_not_built_again(log: Path) -> None:
    built(log)
    before = made(log)
    assert built(log)[1] is False
    assert made(log) == before


def test_another_configuration_or_a_damaged_kernel_is_built(log: Path, tmp_path: Path) -> None:
    kernel, _ = built(log)
    Path(kernel.image).write_bytes(b"another")
    assert built(log)[1] is True
    fragment = tmp_path / "fragment"
    fragment.write_text("# CONFIG_SMP is not set\n")
    slim, is_new = built(log, "slim", fragment)
    assert is_new
    options = configuration.parse(Path(slim.path, "config").read_text())
    assert (options["CONFIG_SMP"], options["CONFIG_VIRTIO_FS"]) == ("n", "y")


def test_what_killed_builders_left_goes(log: Path, tmp_path: Path) -> None:
    """What somebody is at stays: its directory is locked."""
    cache, store = tmp_path / "store/cache", tmp_path / "store/kernels"
    left, is_made = store / ".cloud-left", store / ".cloud-made"
    for path in (cache / ".source-left/tree", left / "new", is_made):
        path.mkdir(parents=True)
    lock = os.open(is_made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    built(log)
    assert sorted(path.name for path in store.iterdir()) == [".cloud-made", "casemate"]
    assert not (cache / ".source-left").exists()
    os.close(lock)
    kernels.remove("casemate")
    assert list(store.iterdir()) == []


def test_guests_boot_ours_where_it_is_installed(log: Path, tmp_path: Path) -> None:
    image = tmp_path / "vmlinux"
    image.write_bytes(b"\x7fELF")
    kernels.install_image("cloud", str(image), "/nonexistent", "6.1-cloud", lambda text: None)
    before = kernels.preferred()
    built(log)
    after = kernels.preferred()
    assert (before and before.name, after and after.name) == ("cloud", "casemate")


def test_a_line_that_linux_did_not_take_ends_it(log: Path) -> None:
    (log / "loses").write_text("CONFIG_EROFS_FS")
    with pytest.raises(HostError, match="CONFIG_EROFS_FS is n, not y"):
        built(log)
    assert kernels.names() == []
    (log / "loses").unlink()
    assert built(log)[1] is True


def test_an_interrupted_build_is_gone_on_with_and_a_failed_one_says_why(log: Path) -> None:
    (log / "fails").touch()
    with pytest.raises(HostError, match=r"error: no such thing.*build\.log"):
        built(log)
    (log / "fails").unlink()
    built(log)
    assert made(log) == ["allnoconfig", "vmlinux", "vmlinux", "kernelrelease"]


def test_nothing_of_the_caller_and_of_the_day_gets_in(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-O0")
    monkeypatch.setenv("KBUILD_BUILD_USER", "somebody")
    built(log)
    environment = dict(line.split("=", 1) for line in (log / "environment").read_text().splitlines())
    assert "CFLAGS" not in environment
    assert (environment["KBUILD_BUILD_USER"], environment["KBUILD_BUILD_HOST"], environment["SOURCE_DATE_EPOCH"]) == ("casemate", "casemate", "1700000000")


def test_the_cache_is_empty_afterwards_or_kept(log: Path, tmp_path: Path) -> None:
    built(log)
    assert [path.name for path in (tmp_path / "store/cache").iterdir()] == [".lock"]
    built(log, "second", keep=True)
    (tree,) = (tmp_path / "store/cache").glob("linux-*")
    # Options of other processors are read, their code is not.
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()) == ["Kconfig", "Makefile", "arch/arm/Kconfig", "arch/x86/head.S"]


def test_what_a_build_lacks_is_named(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_HEADERS", (("casemate/no-such.h", "libelf-dev"),))
    monkeypatch.setattr(build, "_PROGRAMS", (("make", "make"), ("casemate-no-bison", "bison")))
    with pytest.raises(HostError, match="apt-get install bison libelf-dev, or give --yes"):
        built(log)


def test_yes_installs_them(log: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(build, "missing", lambda: [] if (log / "apt").exists() else ["bison"])
    assert command.main(["build", "--yes"]) == 0
    assert (log / "apt").read_text().splitlines() == ["install -y -qq --no-install-recommends bison", "-qq download linux-source-6.1=6.1.9-1"]
    assert capfd.readouterr().out.startswith("casemate\t6.1.9-casemate\t")


def test_debians_source_is_the_version_that_apt_knows(log: Path) -> None:
    origin = source.debian()
    assert (origin.version, origin.label) == ("6.1.9-1", "linux-source-6.1 6.1.9-1")
    kernel, _ = build.build("casemate", [], origin, lambda text: None)
    assert '"source": "linux-source-6.1 6.1.9-1"' in Path(kernel.path, "kernel.json").read_text()


def test_an_archive_of_something_else_is_refused(log: Path, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive")
    with pytest.raises(HostError, match="archive of Linux"):
        build.build("casemate", [], source.from_archive(str(tmp_path / "no.tar")), lambda text: None)


@pytest.mark.parametrize("words", [["build", "--config", "x"], ["build", "poorkvm"], ["build", "cloud"], ["build", "../up"], ["build", ".hidden"]])
def test_names_that_a_kernel_of_ones_own_cannot_have(log: Path, words: list[str]) -> None:
    with pytest.raises(UsageError):
        command.main(words)


def test_the_kernel_for_poor_kvm_is_ours_with_less_and_changed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name alone; a change of what is changed in it makes another."""
    monkeypatch.setattr(pvm, "patched", lambda elf: b"changed: " + elf)
    kernel, is_new = built(log, "poor-kvm")
    assert is_new
    assert Path(kernel.image).read_bytes().startswith(b"changed: ")
    assert "# CONFIG_SMP is not set" in Path(kernel.path, "config").read_text()
    assert not built(log, "poor-kvm")[1]
    monkeypatch.setattr(pvm, "RECIPE", "another")
    assert built(log, "poor-kvm")[1]


def test_a_kernel_without_the_places_is_refused(log: Path) -> None:
    header = b"\x7fELF" + bytes(60)
    with pytest.raises(HostError, match="0 places of this kernel look like it"):
        pvm.patched(header)
