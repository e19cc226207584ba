"""Files of the state directory that something damaged: an error that says so, and no container that cannot be removed."""

from __future__ import annotations

import subprocess

import pytest

from bundle import CASEMATE, TIMEOUT_S, Bundle


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1, "a": 2}'])
def test_damaged_specification(bundle: Bundle, text: str) -> None:
    bundle.create("sleep", "100")
    (bundle.state / bundle.id / "config.json").write_text(text)
    for verb in ("start", "exec"):
        done = bundle.verb(verb, bundle.id, *(["true"] if verb == "exec" else []))
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert bundle.verb("delete", "--force", bundle.id).returncode == 0
    assert not (bundle.state / bundle.id).exists()


@pytest.mark.parametrize("text", ["", "{", "7"])
def test_damaged_record_is_not_taken_for_none(bundle: Bundle, text: str) -> None:
    bundle.create("sleep", "100")
    record = bundle.state / bundle.id / "state.json"
    whole = record.read_text()
    record.write_text(text)
    done = bundle.verb("delete", "--force", bundle.id)
    assert (done.returncode != 0, "damaged" in done.stderr, "Traceback" in done.stderr) == (True, True, False)
    record.write_text(whole)
    assert bundle.verb("delete", "--force", bundle.id).returncode == 0


@pytest.mark.parametrize("words", [["exec", "--process", "/dev/zero"], ["update", "--resources", "/dev/zero"]])
def test_endless_files_are_refused(bundle: Bundle, words: list[str]) -> None:
    bundle.create("sleep", "100")
    command = [CASEMATE, "--root", str(bundle.state), *words, bundle.id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode != 0
    assert "at most 33554432 bytes" in done.stderr
