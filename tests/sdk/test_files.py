"""`files`: contents, trees, what is no file, what changes."""

from __future__ import annotations

import io
import time

import pytest

from casemate import EventType, FileNotFound, FileType, NotPermitted, Sandbox, SandboxError, WriteEntry


def test_text_bytes_and_streams_come_back(sandbox: Sandbox) -> None:
    assert sandbox.files.write("text", "grün\n").size == 6
    assert sandbox.files.read("text") == "grün\n"
    data = bytes(range(256)) * 20_000
    sandbox.files.write("deep/er/data", io.BytesIO(data))
    assert sandbox.files.read("deep/er/data", "bytes") == data
    assert b"".join(sandbox.files.read("deep/er/data", "stream")) == data


def test_a_shorter_content_replaces_a_longer(sandbox: Sandbox) -> None:
    sandbox.files.write_files([WriteEntry("same", "long content"), WriteEntry("same", b"short")])
    assert sandbox.files.read("same") == "short"


def test_programs_see_the_files_and_the_other_way_round(sandbox: Sandbox) -> None:
    sandbox.files.write("in", "1 2\n", mode=0o600)
    sandbox.commands.run("cat in > out; chmod 640 out; ln -s out link")
    assert sandbox.files.read("out") == "1 2\n"
    info = sandbox.files.get_info("link")
    assert (info.type, info.symlink_target) == (FileType.SYMLINK, "out")
    assert sandbox.files.get_info("link", follow=True).permissions == "rw-r-----"


def test_lists_are_sorted_and_as_deep_as_asked(sandbox: Sandbox) -> None:
    sandbox.commands.run("mkdir -p tree/b/c; touch tree/a tree/b/x tree/b/c/deep")
    names = [entry.path.removeprefix("/home/user/tree/") for entry in sandbox.files.list("tree", depth=2)]
    assert names == ["a", "b", "b/c", "b/x"]


def test_make_rename_remove_exists(sandbox: Sandbox) -> None:
    assert sandbox.files.make_dir("one/two") is True
    assert sandbox.files.make_dir("one/two") is False
    assert sandbox.files.rename("one", "uno").type is FileType.DIR
    assert [sandbox.files.exists(path) for path in ("one", "uno/two")] == [False, True]
    sandbox.files.remove("uno")
    assert not sandbox.files.exists("uno")


def test_remove_does_not_follow_links(sandbox: Sandbox) -> None:
    sandbox.commands.run("mkdir -p keep; touch keep/me; ln -s keep way")
    sandbox.files.remove("way")
    assert sandbox.files.exists("keep/me")


@pytest.mark.parametrize("path", ["missing", "missing/deep", "/nowhere"])
def test_what_is_missing_is_named(sandbox: Sandbox, path: str) -> None:
    for action in (sandbox.files.read, sandbox.files.remove, sandbox.files.list, sandbox.files.get_info):
        with pytest.raises(FileNotFound, match=path.split("/", maxsplit=1)[0] or path):
            action(path)


def test_data_that_is_none_leaves_the_file_as_it_was(sandbox: Sandbox) -> None:
    sandbox.files.write("kept", "before")
    with pytest.raises(SandboxError, match="data: expected a text, bytes or an open file, got 5"):
        sandbox.files.write("kept", 5)  # type: ignore[arg-type]
    assert sandbox.files.read("kept") == "before"


def test_what_is_no_file_is_refused_without_waiting(sandbox: Sandbox) -> None:
    sandbox.commands.run("mkfifo fifo; mkdir -p directory")
    for path in ("fifo", "/dev/zero", "directory"):
        with pytest.raises(SandboxError):
            sandbox.files.read(path)
    assert sandbox.files.get_info("fifo").type is FileType.OTHER


def test_a_file_that_claims_to_be_huge_is_not_taken_in(sandbox: Sandbox) -> None:
    sandbox.commands.run("truncate -s 1T sparse")
    with pytest.raises(SandboxError, match="larger than 1000"):
        sandbox.files.read("sparse", max_bytes=1000)


def test_files_of_other_users_of_the_sandbox(sandbox: Sandbox) -> None:
    sandbox.commands.run("umask 077; mkdir /tmp/own; echo mine > /tmp/own/file", user="1000")
    assert sandbox.files.read("/tmp/own/file") == "mine\n"


def test_hidden_places_of_the_host_stay_hidden(sandbox: Sandbox) -> None:
    for path in ("/etc/shadow", "/root/.bashrc", "/proc/kcore"):
        try:
            assert sandbox.files.read(path) == ""
        except (FileNotFound, NotPermitted, SandboxError):
            pass


def wait_for(handle: object, wanted: set[tuple[str, EventType]]) -> None:
    deadline = time.monotonic() + 10
    while wanted:
        wanted -= {(event.name, event.type) for event in handle.get_new_events()}  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, wanted


def test_changes_are_watched_in_new_directories_too(sandbox: Sandbox) -> None:
    sandbox.files.make_dir("watched/old")
    with sandbox.files.watch_dir("watched", recursive=True) as handle:
        sandbox.commands.run("cd watched; echo x > a; mkdir -p new/er; rm a; touch old/b")
        wait_for(
            handle,
            {("a", EventType.CREATE), ("a", EventType.WRITE), ("a", EventType.REMOVE), ("new", EventType.CREATE), ("old/b", EventType.CREATE)}
            | {("new/er", EventType.CREATE)},
        )
        sandbox.files.write("watched/new/er/file", "x")
        wait_for(handle, {("new/er/file", EventType.WRITE)})
    with pytest.raises(SandboxError, match="stopped"):
        handle.get_new_events()
