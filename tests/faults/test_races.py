"""Commands at once on one container: one wins, the others say why they do not."""

from __future__ import annotations

import subprocess

from bundle import Bundle, leftovers


def at_once(bundle: Bundle, count: int, *words: str) -> list[tuple[int, str]]:
    """Exit codes and standard errors of that many of the same command."""
    files = [(bundle.directory / f"err{number}").open("w+") for number in range(count)]
    null = subprocess.DEVNULL
    command = [bundle.runtime, "--root", str(bundle.state), *words]
    started = [subprocess.Popen(command, stdin=null, stdout=null, stderr=file, cwd=bundle.directory) for file in files]
    codes = [process.wait(60) for process in started]
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read())
        file.close()
    return list(zip(codes, texts, strict=True))


def test_hundred_creates_of_one_id(bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["true"]
    bundle.write()
    results = at_once(bundle, 100, "create", "--bundle", str(bundle.directory), bundle.id)
    assert sorted(code for code, _ in results).count(0) == 1
    assert [text for code, text in results if code and "already exists" not in text] == []
    assert bundle.status() == "created"


def test_starts_of_one_container(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    results = at_once(bundle, 20, "start", bundle.id)
    assert [code for code, _ in results].count(0) == 1
    assert [text for code, text in results if code and ("Traceback" in text or bundle.id not in text)] == []
    assert bundle.status() == "running"


def test_deletes_of_one_container(bundle: Bundle) -> None:
    bundle.create("sleep", "100")
    results = at_once(bundle, 20, "delete", "--force", bundle.id)
    assert [text for _, text in results if "Traceback" in text] == []
    assert [code for code, _ in results].count(0) >= 1
    assert leftovers(bundle.id, bundle.directory) == []
