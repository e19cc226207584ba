"""Files and identity: answers and side effects equal the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("program", ["opening", "attributes", "locks", "identity", "filters", "listing"])
def test_program_tells_the_same_in_the_sentry(program: str, same_in_sentry: Callable[[str], None]) -> None:
    same_in_sentry(f"files/{program}.c")
