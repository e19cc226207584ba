"""Command-line options from a table, in the way engines call runc (`--flag value`, `--flag=value`, `-f value`, `-it`).

argparse costs 6 ms of import, half a verb.
"""

from __future__ import annotations

from casemate.errors import UsageError

FLAG, VALUE, LIST = "flag", "value", "list"


class Option:
    """One option: its names without dashes (the first is the key), kind (FLAG, VALUE or LIST), help text and the value's placeholder."""

    __slots__ = ("help", "kind", "names", "placeholder")

    def __init__(self, names: str, kind: str, help: str, placeholder: str = "VALUE") -> None:
        self.names = names.split()
        self.kind = kind
        self.help = help
        self.placeholder = placeholder


# Of the command itself and of `do` (cli/strace.py reads them).
STRACE = [
    Option("strace", FLAG, "with isolation sentry: show each system call, on standard error"),
    Option("strace-log", VALUE, "show them in this file instead", "FILE"),
    Option("strace-format", VALUE, "text (default) or json, an object per line", "FORMAT"),
    Option("strace-calls", VALUE, "only these calls", "NAME,..."),
    Option("strace-size", VALUE, "bytes of a string that are shown (default 64)", "N"),
]


class Parsed:
    """What was given: flags, values and lists by an option's first name, and the positional arguments."""

    __slots__ = ("_values", "arguments")

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.arguments: list[str] = []

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(name, []).append(value)

    def flag(self, name: str) -> bool:
        return name in self._values and self._values[name][-1] != "false"

    def value(self, name: str, default: str = "") -> str:
        return self._values[name][-1] if name in self._values else default

    def given(self, name: str) -> bool:
        return name in self._values

    def list(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def integer(self, name: str, default: int = 0) -> int:
        """The value as an integer. Raises UsageError."""
        text = self.value(name)
        if not self.given(name):
            return default
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"--{name}: expected an integer, got {text!r}") from None


def parse(arguments: list[str], options: list[Option], *, interspersed: bool = True) -> Parsed:
    """Reads options and positional arguments; with `interspersed` false the first positional ends the options, as for a command to run.

    `--` ends the options too. Raises UsageError for an unknown option or a missing value.
    """
    by_name = {name: option for option in options for name in option.names}
    parsed = Parsed()
    at = 0
    while at < len(arguments):
        word = arguments[at]
        at += 1
        if word == "--":
            parsed.arguments += arguments[at:]
            break
        if not word.startswith("-") or word == "-":
            parsed.arguments.append(word)
            if not interspersed:
                parsed.arguments += arguments[at:]
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        option = by_name.get(name)
        if option is None:
            _short_flags(word, by_name, parsed)
        elif option.kind == FLAG:
            parsed.add(option.names[0], value if equals else "true")
        else:
            if not equals:
                if at == len(arguments):
                    raise UsageError(f"option {word} needs a value: {option.placeholder}")
                value = arguments[at]
                at += 1
            parsed.add(option.names[0], value)
    return parsed


def _short_flags(word: str, by_name: dict[str, Option], parsed: Parsed) -> None:
    letters = word[1:]
    if not word.startswith("--") and all(c in by_name and by_name[c].kind == FLAG for c in letters):
        for letter in letters:
            parsed.add(by_name[letter].names[0], "true")
        return
    if not word.startswith("--") and 2 <= len(letters) <= 3 and any(c in by_name for c in letters):
        # As docker's -it: joined, and one of them is not ours, or wants a value.
        wrong = next(c for c in letters if c not in by_name or by_name[c].kind != FLAG)
        raise UsageError(f"option -{wrong} in {word} {'needs a value of its own' if wrong in by_name else 'is unknown'} (see --help)")
    near = _nearest(word.lstrip("-").partition("=")[0], by_name)
    raise UsageError(f"unknown option {word}" + (f"; did you mean {'-' if len(near) == 1 else '--'}{near}?" if near else "") + " (see --help)")


def _nearest(name: str, by_name: dict[str, Option]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(by_name), 1)), "")


def help_text(usage: str, description: str, options: list[Option]) -> str:
    """The text of `--help`."""
    rows = []
    for option in options:
        names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
        rows.append((names if option.kind == FLAG else f"{names} {option.placeholder}", option.help))
    rows.append(("-h, --help", "show this help"))
    width = max(len(names) for names, _ in rows)
    lines = [f"Usage: {usage}", "", description, "", "Options:"]
    lines += [f"  {names:<{width}}  {text}" for names, text in rows]
    return "\n".join(lines)
