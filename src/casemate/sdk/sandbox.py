"""`Sandbox`: a place to run programs in, for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType

from casemate.policy.hardened import DEFAULT_PIDS
from casemate.sdk._session import DEFAULT_TIMEOUT_S, HOME, Session, Settings, list_sandboxes
from casemate.sdk.commands import Commands
from casemate.sdk.files import Files
from casemate.sdk.pty import Pty
from casemate.sdk.types import Metrics, SandboxInfo


class Sandbox:
    """A running sandbox. As a context manager it ends with the block; else it runs until its timeout, whatever becomes of this process.

    with Sandbox.create() as sandbox:
        print(sandbox.commands.run("id").stdout)
    """

    def __init__(self, session: Session) -> None:
        """Not called by programs: see `create` and `connect`."""
        self._session = session
        self.commands = Commands(session)
        self.files = Files(session)
        self.pty = Pty(session)

    @classmethod
    def create(
        cls, rootfs: str = "", *, isolation: str = "", timeout: float | None = DEFAULT_TIMEOUT_S, metadata: Mapping[str, str] | None = None,
        envs: Mapping[str, str] | None = None, binds: Sequence[tuple[str, str] | tuple[str, str, str]] = (), memory: int | str = 0, cpus: float = 0.0,
        pids: int = DEFAULT_PIDS, network: str = "none", user: str | None = None, cwd: str = HOME, show: Sequence[str] = ("python3",),
        root_image: str = "auto", state_root: str = "",
    ) -> Sandbox:  # fmt: skip
        """Starts a sandbox over a root directory, or over the host's own root, read-only below a private layer.

        rootfs: the root; it stays as it is.   isolation: the wall (default: as configured).   timeout: seconds until the sandbox ends by itself; None: never.
        metadata: kept for `list`.   envs: of all its programs.   binds: (host path, sandbox path) or (…, …, "ro").   memory: bytes or "512M".   cpus: 0.5
        is half of one.   pids: processes and threads.   network: "none" or "host".   user: whom programs run as (default: root of the sandbox, which is
        nobody on the host).   cwd: the working directory, made if it is missing.   show: programs of the host whose installations below hidden directories
        are shown read-only.   root_image: of a microvm with a rootfs: "no" shows it that directory, "memory" or a size ("4G") gives it an image of it,
        and what it writes is in its memory or on a disk, "+dax" behind it has the image mapped; "auto" is the sooner of "no" and
        "memory".   state_root: where its state is kept (default: /run/casemate).

        Raises SandboxError (a wrong argument), HostError (this host cannot do it: reason and remedy), EngineError.
        """
        settings = Settings(
            rootfs=rootfs, isolation=isolation, timeout=timeout, metadata=metadata or {}, envs=envs or {}, binds=binds, memory=memory, cpus=cpus,
            pids=pids, network=network, user=user, cwd=cwd, show=show, root_image=root_image, state_root=state_root,
        )  # fmt: skip
        return cls(Session.create(settings))

    @classmethod
    def connect(cls, sandbox_id: str, *, state_root: str = "") -> Sandbox:
        """A sandbox that this or another process of the same user started. Raises SandboxNotFound."""
        return cls(Session.connect(sandbox_id, state_root))

    @staticmethod
    def list(*, state_root: str = "") -> list[SandboxInfo]:
        """The running sandboxes of this user, the oldest first."""
        return list_sandboxes(state_root)

    @property
    def sandbox_id(self) -> str:
        """What `connect` finds it by."""
        return self._session.sandbox_id

    def set_timeout(self, timeout: float | None) -> None:
        """Lets it end `timeout` seconds from now; None: not by itself. Raises SandboxNotFound."""
        self._session.set_timeout(timeout)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._session.is_running()

    def get_info(self) -> SandboxInfo:
        """Its id, isolation, times and metadata."""
        return self._session.info()

    @property
    def end_at(self) -> datetime | None:
        """When its timeout ends it."""
        return self._session.info().end_at

    def get_metrics(self) -> Metrics:
        """What it uses now. Raises SandboxNotFound."""
        return self._session.metrics()

    def kill(self) -> bool:
        """Ends it, with all that runs in it, and removes all of it; False if it had ended."""
        return self._session.kill()

    def close(self) -> None:
        """Lets go of it without ending it."""
        self._session.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<Sandbox {self.sandbox_id}>"
