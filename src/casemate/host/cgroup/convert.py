"""Values of v1, in which `linux.resources` is written, as values of v2."""

from __future__ import annotations

from casemate.errors import CgroupError

_SWAP = "linux.resources.memory.swap"


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) of cpu.shares (2 to 262144): log-quadratic through 2 -> 1, 1024 -> 100 and 262144 -> 10000.

    The formula of runc 1.4 and crun 1.23 (opencontainers/cgroups ConvertCPUSharesToCgroupV2Value). The older linear one made the default
    1024 into 39, so that a container was given less than any process outside of it.
    """
    from math import ceil, log2  # only where v2 and shares meet: a shared object to load

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612.0 - 7.0 / 34.0))


def swap_of_memory_and_swap(memory_and_swap: int, memory: int) -> str:
    """memory.swap.max of OCI's `swap` (memory and swap together) and `limit`; empty: leave it. -1 is unlimited, 0 not given.

    Raises CgroupError where the two contradict each other.
    """
    if memory == -1 and memory_and_swap == 0:
        return "max"  # as v1: unlimited memory lifts the limit of both
    if memory_and_swap == 0:
        return ""
    if memory_and_swap < 0:
        return "max"
    if memory <= 0:
        raise CgroupError("swap is memory and swap together, so a memory limit is needed with it", field=_SWAP)
    if memory_and_swap < memory:
        raise CgroupError(f"{memory_and_swap} is memory and swap together and must not be below the limit {memory}", field=_SWAP)
    return str(memory_and_swap - memory)


def io_weight_of_blkio(weight: int) -> int:
    """io.weight (1 to 10000) of blkio.weight (10 to 1000), linear."""
    return 1 + (weight - 10) * 9999 // 990


def limit_text(value: int) -> str:
    """A v2 limit; -1 is `max`."""
    return "max" if value < 0 else str(value)
