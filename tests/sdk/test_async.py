"""The asynchronous SDK: the same doors, awaited, many at once."""

from __future__ import annotations

import asyncio

import pytest

from casemate import AsyncSandbox, CommandExit, CommandTimeout, FilesystemEvent, PtySize, SandboxNotFound


def test_commands_and_files(state_root: str) -> None:
    async def story() -> None:
        async with await AsyncSandbox.create(state_root=state_root) as sandbox:
            pieces: list[str] = []
            result = await sandbox.commands.run("echo out; echo err >&2", on_stdout=pieces.append)
            assert (result.stdout, result.stderr, pieces) == ("out\n", "err\n", ["out\n"])
            with pytest.raises(CommandExit):
                await sandbox.commands.run("exit 9")
            with pytest.raises(CommandTimeout):
                await sandbox.commands.run("sleep 100", timeout=0.2)
            await sandbox.files.write("a/b", "text")
            assert await sandbox.files.read("a/b") == "text"
            assert b"".join([chunk async for chunk in await sandbox.files.read("a/b", "stream")]) == b"text"
            assert [entry.name for entry in await sandbox.files.list("a")] == ["b"]
            assert await sandbox.is_running()
            assert (await sandbox.get_metrics()).processes >= 1
        with pytest.raises(SandboxNotFound):
            await sandbox.commands.run("true")

    asyncio.run(story())


def test_fifty_at_once_need_no_fifty_threads(state_root: str) -> None:
    async def story() -> list[str]:
        async with await AsyncSandbox.create(state_root=state_root) as sandbox:
            handles = [await sandbox.commands.run(f"read x; echo {number} $x", True, stdin=True) for number in range(50)]
            waiting = [asyncio.ensure_future(handle.wait()) for handle in handles]
            for handle in handles:
                await handle.send_stdin("y\n")
            return [result.stdout for result in await asyncio.gather(*waiting)]

    assert asyncio.run(story()) == [f"{number} y\n" for number in range(50)]


def test_a_cancelled_run_kills_its_program(state_root: str) -> None:
    async def story() -> None:
        async with await AsyncSandbox.create(state_root=state_root) as sandbox:
            begun = asyncio.Event()
            task = asyncio.ensure_future(sandbox.commands.run("echo x; sleep 100", on_stdout=lambda _: begun.set(), timeout=None))
            await asyncio.wait_for(begun.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while await sandbox.commands.list():
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_terminal_and_watch(state_root: str) -> None:
    async def story() -> None:
        async with await AsyncSandbox.create(state_root=state_root) as sandbox:
            data: list[bytes] = []
            handle = await sandbox.pty.create(PtySize(5, 7), data.append)
            await sandbox.pty.send_stdin(handle.pid, "stty size; exit\n")
            await handle.wait()
            assert b"5 7" in b"".join(data)

            events: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
            await sandbox.files.make_dir("w")
            watch = await sandbox.files.watch_dir("w", events.put_nowait)
            await sandbox.files.write("w/file", "x")
            assert (await asyncio.wait_for(events.get(), 10)).name == "file"
            watch.stop()

    asyncio.run(story())


def test_connect_and_list(state_root: str) -> None:
    async def story() -> None:
        async with await AsyncSandbox.create(state_root=state_root) as sandbox:
            other = await AsyncSandbox.connect(sandbox.sandbox_id, state_root=state_root)
            assert (await other.commands.run("echo hi")).stdout == "hi\n"
            assert sandbox.sandbox_id in [info.sandbox_id for info in await AsyncSandbox.list(state_root=state_root)]
            other.close()

    asyncio.run(story())
