"""The C half of `signal`, which the lean import path uses for its 3 ms less: the same names."""

from collections.abc import Callable
from types import FrameType

SIG_DFL: int
SIG_IGN: int
SIGALRM: int
SIGCHLD: int
SIGCONT: int
SIGHUP: int
SIGINT: int
SIGKILL: int
SIGPIPE: int
SIGQUIT: int
SIGRTMAX: int
SIGRTMIN: int
SIGSEGV: int
SIGSTOP: int
SIGTERM: int
SIGUSR1: int
SIGUSR2: int
SIGWINCH: int

def signal(signalnum: int, handler: int | Callable[[int, FrameType | None], object]) -> object: ...
def pidfd_send_signal(pidfd: int, signal: int, siginfo: None = None, flags: int = 0) -> None: ...
