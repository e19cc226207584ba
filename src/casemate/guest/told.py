"""What is said once on a host, not at each start."""

from __future__ import annotations

import os

from casemate.guest import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def tell_once(topic: str, name: str, text: str, say: Callable[[str], None]) -> None:
    """A later start tells it again only if it is another `name`."""
    path = f"{store.prepare()}/told-{topic}"
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == name:
                return
    except FileNotFoundError:
        pass
    say(text)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as out:
        out.write(name)
    os.rename(temporary, path)
