"""Changes below a directory, told to a callback on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from casemate.sdk.types import FilesystemEvent
from casemate.sdk.watch import WatchHandle


class AsyncWatchHandle:
    """Calls back for each change until `stop`. An overflow of events goes to the loop's exception handler and ends the watch."""

    def __init__(self, watch: WatchHandle, on_event: Callable[[FilesystemEvent], object]) -> None:
        self._watch = watch
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(watch.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            events = self._watch.get_new_events()
        except Exception:
            self.stop()
            raise
        for event in events:
            self._on_event(event)

    def stop(self) -> None:
        """Ends the watch."""
        if self._watch.fileno() >= 0:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.stop()
