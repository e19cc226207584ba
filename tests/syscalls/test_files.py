"""Files and identity: answers and side effects equal the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("program", ["opening", "attributes", "locks", "filters", "listing"])
def test_program_tells_the_same_in_the_sentry(program: str, same_in_sentry: Callable[[str], None]) -> None:
    same_in_sentry(f"files/{program}.c")


def test_ids_and_capabilities_decide_as_on_the_host(same_in_container: Callable[[str], None]) -> None:
    same_in_container("files/identity.c")
