"""A kernel's configuration: fragments of ours, and whether Linux took each line of them."""

from __future__ import annotations

import os

from casemate.errors import HostError

# What every kernel of ours has; further fragments change it.
FRAGMENT = os.path.join(os.path.dirname(__file__), "config-x86_64")
# What those of ours have besides that are for a purpose, by name.
VARIANTS = {"poor-kvm": os.path.join(os.path.dirname(__file__), "config-poor-kvm")}
_OFF = " is not set"


def parse(text: str) -> dict[str, str]:
    """Options and their values, of a fragment or a .config; "n" for one that is said to be off."""
    options = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("# CONFIG_") and line.endswith(_OFF):
            options[line[2 : -len(_OFF)]] = "n"
        elif line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            options[name] = value
    return options


def merged(paths: list[str]) -> dict[str, str]:
    """The options of all these fragments; a later one's word counts. Raises HostError."""
    options: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                options |= parse(file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"{path} cannot be read: {error}") from None
    return options


def rendered(options: dict[str, str]) -> str:
    """The text for KCONFIG_ALLCONFIG, sorted: what a build is known by."""
    return "".join(f"# {name}{_OFF}\n" if value == "n" else f"{name}={value}\n" for name, value in sorted(options.items()))


def lost(wanted: dict[str, str], taken: dict[str, str]) -> list[str]:
    """What Linux made of those options that it did not take: one that depends on another that is off, or that this version has not."""
    return [f"{name} is {taken.get(name, 'n')}, not {value}" for name, value in sorted(wanted.items()) if taken.get(name, "n") != value]
