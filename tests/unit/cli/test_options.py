"""Options as engines and people write them."""

from __future__ import annotations

import pytest

from casemate.cli.options import FLAG, LIST, VALUE, Option, help_text, parse
from casemate.errors import UsageError

OPTIONS = [
    Option("detach d", FLAG, "return at once"),
    Option("tty t", FLAG, "a terminal"),
    Option("env e", LIST, "set a variable", "K=V"),
    Option("pid-file", VALUE, "a file", "FILE"),
]


@pytest.mark.parametrize("words", [["--pid-file", "x"], ["--pid-file=x"], ["-pid-file", "x"]])
def test_value_in_each_spelling(words: list[str]) -> None:
    assert parse(words, OPTIONS).value("pid-file") == "x"


def test_short_flags_may_be_joined_and_lists_collect() -> None:
    parsed = parse(["-dt", "-e", "A=1", "--env=B=2", "id"], OPTIONS)
    assert parsed.flag("detach")
    assert parsed.flag("tty")
    assert parsed.list("env") == ["A=1", "B=2"]
    assert parsed.arguments == ["id"]


def test_options_after_a_command_are_the_commands() -> None:
    parsed = parse(["-d", "id", "ls", "-d"], OPTIONS, interspersed=False)
    assert parsed.arguments == ["id", "ls", "-d"]


def test_options_after_a_positional_are_ours_otherwise() -> None:
    assert parse(["id", "-d"], OPTIONS).flag("detach")


def test_two_dashes_end_the_options() -> None:
    assert parse(["--", "-d"], OPTIONS).arguments == ["-d"]


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean --detach"):
        parse(["--detatch"], OPTIONS)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("-id", "option -i in -id is unknown"),
        ("-de", "option -e in -de needs a value"),
        ("-detatch", "did you mean --detach"),
        ("-x", "unknown option -x "),
    ],
)
def test_a_wrong_one_of_joined_letters_is_named(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse([word], OPTIONS)


def test_missing_value_is_named() -> None:
    with pytest.raises(UsageError, match="--pid-file needs a value: FILE"):
        parse(["--pid-file"], OPTIONS)


def test_a_number_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="--pid-file: expected an integer"):
        parse(["--pid-file=x"], OPTIONS).integer("pid-file")


def test_help_lists_each_option() -> None:
    text = help_text("casemate x", "Does x.", OPTIONS)
    assert all(name in text for name in ("--detach, -d", "--pid-file FILE", "-h, --help"))
