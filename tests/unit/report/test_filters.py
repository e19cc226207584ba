"""Reading the filters of a process that is not to be read."""

from __future__ import annotations

import os

import pytest

from casemate.errors import HostError
from casemate.report.filters import read_filters


def test_a_process_that_cannot_be_traced_is_named() -> None:
    own = os.getpid()  # no process may trace itself: EPERM, whoever asks

    with pytest.raises(HostError, match=f"process {own} cannot be traced"):
        read_filters(own)
