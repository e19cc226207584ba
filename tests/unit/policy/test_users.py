"""Users by name and number, from a root that is a stranger's: its links lead nowhere and its pipes stop nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate.errors import UsageError
from casemate.policy.ids import Lent
from casemate.policy.users import find_user


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "etc").mkdir(parents=True)
    (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbroken\nfar:x:99999999999:1::/:\nuser:x:1000:1001::/home/user:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\naudio:x:29:user,other\nmain:x:1001:user\nbad:x:x:user\n")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("root", (0, 0, [])),
        ("user", (1000, 1001, [29])),
        ("user:audio", (1000, 29, [])),
        ("user:7", (1000, 7, [])),
        ("4242", (4242, 4242, [])),
        ("4242:audio", (4242, 29, [])),
    ],
)
def test_names_and_numbers(root: Path, text: str, expected: tuple[int, int, list[int]]) -> None:
    user = find_user(text, str(root))
    assert (user.uid, user.gid, user.groups) == expected


@pytest.mark.parametrize("text", ["", ":", ":7", "user:", "nobody", "far", "user:nogroup", "4294967295", "9" * 5000, "²", "broken"])
def test_what_is_no_user_is_a_clear_error(root: Path, text: str) -> None:
    with pytest.raises(UsageError, match="user: "):
        find_user(text, str(root))


@pytest.mark.parametrize("trap", ["link", "link of etc", "pipe", "directory", "missing"])
def test_a_root_that_is_a_trap(root: Path, tmp_path: Path, trap: str) -> None:
    passwd = root / "etc/passwd"
    if trap == "link of etc":
        (root / "etc").rename(tmp_path / "elsewhere")
        (root / "etc").symlink_to(tmp_path / "elsewhere")
    else:
        passwd.rename(tmp_path / "elsewhere")
    if trap == "link":
        passwd.symlink_to(tmp_path / "elsewhere")
    elif trap == "pipe":
        os.mkfifo(passwd)
    elif trap == "directory":
        passwd.mkdir()
    with pytest.raises(UsageError, match="/etc/passwd of the sandbox's root"):
        find_user("user", str(root))
    assert find_user("1000", str(root)).uid == 1000


def test_ids_that_a_sandbox_has_not_are_named_with_those_it_has() -> None:
    lent = Lent([[0, 1000, 1], [1, 100000, 999]], [[0, 1000, 1]])
    lent.need(999, 0)
    with pytest.raises(UsageError, match="no user id 1000, only 0 to 999"):
        lent.need(1000, 0)
    with pytest.raises(UsageError, match="no group id 1, only 0"):
        lent.need(0, 1)
