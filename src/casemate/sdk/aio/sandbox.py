"""`AsyncSandbox`: `Sandbox` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType

from casemate.policy.hardened import DEFAULT_PIDS
from casemate.sdk._session import DEFAULT_TIMEOUT_S, HOME, Session, Settings, list_sandboxes
from casemate.sdk.aio.commands import AsyncCommands
from casemate.sdk.aio.files import AsyncFiles
from casemate.sdk.aio.pty import AsyncPty
from casemate.sdk.types import Metrics, SandboxInfo


class AsyncSandbox:
    """A running sandbox; ends with its `async with` block, else at its timeout.

    async with await AsyncSandbox.create() as sandbox:
        print((await sandbox.commands.run("id")).stdout)
    """

    def __init__(self, session: Session) -> None:
        """Not called by programs: see `create` and `connect`."""
        self._session = session
        self.commands = AsyncCommands(session)
        self.files = AsyncFiles(session)
        self.pty = AsyncPty(session)

    @classmethod
    async def create(
        cls, rootfs: str = "", *, isolation: str = "", timeout: float | None = DEFAULT_TIMEOUT_S, metadata: Mapping[str, str] | None = None,
        envs: Mapping[str, str] | None = None, binds: Sequence[tuple[str, str] | tuple[str, str, str]] = (), memory: int | str = 0, cpus: float = 0.0,
        pids: int = DEFAULT_PIDS, network: str = "none", user: str | None = None, cwd: str = HOME, show: Sequence[str] = ("python3",),
        root_image: str = "auto", state_root: str = "",
    ) -> AsyncSandbox:  # fmt: skip
        """As `Sandbox.create`."""
        settings = Settings(
            rootfs=rootfs, isolation=isolation, timeout=timeout, metadata=metadata or {}, envs=envs or {}, binds=binds, memory=memory, cpus=cpus,
            pids=pids, network=network, user=user, cwd=cwd, show=show, root_image=root_image, state_root=state_root,
        )  # fmt: skip
        return cls(await asyncio.to_thread(Session.create, settings))

    @classmethod
    async def connect(cls, sandbox_id: str, *, state_root: str = "") -> AsyncSandbox:
        """A sandbox that this or another process of the same user started. Raises SandboxNotFound."""
        return cls(await asyncio.to_thread(Session.connect, sandbox_id, state_root))

    @staticmethod
    async def list(*, state_root: str = "") -> list[SandboxInfo]:
        """The running sandboxes of this user, the oldest first."""
        return await asyncio.to_thread(list_sandboxes, state_root)

    @property
    def sandbox_id(self) -> str:
        """What `connect` finds it by."""
        return self._session.sandbox_id

    async def set_timeout(self, timeout: float | None) -> None:
        """Lets it end `timeout` seconds from now; None: not by itself."""
        await asyncio.to_thread(self._session.set_timeout, timeout)

    async def is_running(self) -> bool:
        """Whether it has not ended."""
        return await asyncio.to_thread(self._session.is_running)

    async def get_info(self) -> SandboxInfo:
        """Its id, isolation, times and metadata."""
        return self._session.info()

    async def get_metrics(self) -> Metrics:
        """What it uses now."""
        return await asyncio.to_thread(self._session.metrics)

    async def kill(self) -> bool:
        """Ends it, with all that runs in it, and removes all of it; False if it had ended."""
        return await asyncio.to_thread(self._session.kill)

    def close(self) -> None:
        """Lets go of it without ending it."""
        self._session.close()

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.kill()

    def __repr__(self) -> str:
        return f"<AsyncSandbox {self.sandbox_id}>"
