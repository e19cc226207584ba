"""`casemate surface`: how many of the host's system calls a program in a sandbox can reach."""

from __future__ import annotations

from casemate import jsonlite
from casemate.cli.main import Globals
from casemate.cli.options import FLAG, VALUE, Option, Parsed
from casemate.cli.verb import read
from casemate.errors import CasemateError, UsageError
from casemate.isolation import registry

HELP = "Counts the host's system calls that a sandbox can reach: from the filter of a running one, and by trying each call inside."
OPTIONS = [
    Option("isolation", VALUE, f"the wall (default: {registry.DEFAULT})", "NAME"),
    Option("pid", VALUE, "of this process, of whatever runtime, in place of a new sandbox", "PID"),
    Option("probe", FLAG, "also try each call inside (the default; --probe=false: do not)"),
    Option("list", FLAG, "name the calls"),
    Option("json", FLAG, "print JSON"),
]
_WIDTH = 110


def main(arguments: list[str]) -> int:
    parsed = read(arguments, OPTIONS, usage="surface [options]", help=HELP, least=0, most=0)
    if parsed is None:
        return 0
    report = _measure(parsed)
    if parsed.flag("json"):
        print(jsonlite.dumps(report, indent=2))
    else:
        _show(report, with_names=parsed.flag("list"))
    inside = report.get("probe")
    return 1 if isinstance(inside, dict) and inside["disagree"] else 0


def _measure(parsed: Parsed) -> dict[str, object]:
    from casemate.report import measure

    if parsed.given("pid"):
        pid = parsed.integer("pid")
        if pid <= 0:
            raise UsageError(f"--pid: expected more than 0, got {pid}")
        return {"subject": f"process {pid}"} | measure.of_process(pid) | {"others": measure.others()}
    isolation = parsed.value("isolation") or Globals.isolation or registry.DEFAULT
    report = {"subject": f"sandbox ({isolation})", "isolation": isolation} | measure.of_isolation(Globals.root, isolation)
    # In a sentry each call is answered, by whichever side: trying it says nothing about the host's.
    if "sentry" not in report and (not parsed.given("probe") or parsed.flag("probe")):
        try:
            report["probe"] = measure.from_inside(report, Globals.root, isolation)
        except CasemateError as error:
            report["note"] = "; ".join(filter(None, [str(report["note"]), f"not tried inside: {error}"]))
    return report | {"others": measure.others()}


def _show(report: dict[str, object], *, with_names: bool) -> None:
    from casemate.report.table import show_table

    counts, others, inside = report["counts"], report["others"], report.get("probe")
    total, conditional = report["total"], report["conditional"]
    assert isinstance(counts, dict)
    assert isinstance(others, dict)
    assert isinstance(total, int)
    assert isinstance(conditional, list)
    rows = [[str(report["subject"]), str(counts["reachable"]), str(counts["refused"]), _source(report)]]
    sentry = report.get("sentry")
    if isinstance(sentry, dict):
        rows += [["the sentry itself", str(sentry["counts"]["reachable"]), str(sentry["counts"]["refused"]), _source(sentry)]]
    rows += [[name, str(other["reachable"]), str(total - other["reachable"]), str(other["source"])] for name, other in others.items()]
    show_table(["PROCESS", "REACHABLE", "REFUSED", "COUNTED FROM"], rows)
    lines = [f"\n{total} calls have a name on x86-64" + (f", this kernel has {inside['implemented']} of them." if isinstance(inside, dict) else ".")]
    if conditional:
        lines.append(f"{len(conditional)} of the reachable only with some arguments: {', '.join(conditional)}.")
    conventions = report.get("conventions")
    if isinstance(conventions, dict):
        lines.append("; ".join(f"{name} calls: {f'all refused ({answer})' if answer else 'some pass'}" for name, answer in conventions.items()) + ".")
    if isinstance(inside, dict):
        lines += _inside(inside)
    if report["note"]:
        lines.append(f"Note: {report['note']}.")
    print("\n".join(lines))
    if with_names:
        _show_names(report)


def _source(report: dict[str, object]) -> str:
    if report["source"] == "profile":
        return "the profile"
    return f"the installed filter, {report['instructions']} instructions" if report["filters"] else "no filter"


def _inside(inside: dict[str, object]) -> list[str]:
    refused, disagree, skipped, unfiltered = inside["refused"], inside["disagree"], inside["skipped"], inside["unfiltered"]
    assert isinstance(refused, dict)
    assert isinstance(disagree, dict)
    assert isinstance(skipped, list)
    assert isinstance(unfiltered, list)
    answers = ", ".join(f"{count} {answer}" for answer, count in refused.items())
    lines = [f"Tried inside: {inside['tried']} calls, {inside['reached']} reached the kernel, refused were {answers}; not tried: {', '.join(skipped)}."]
    if unfiltered:
        lines.append(f"The kernel itself passes by any filter: {', '.join(unfiltered)}; outside of its own probes they only fail.")
    if disagree:
        lines.append("NOT AS THE FILTER SAYS: " + ", ".join(f"{name} ({got})" for name, got in disagree.items()) + ".")
    return lines


def _show_names(report: dict[str, object]) -> None:
    from textwrap import fill

    reachable, refused = report["reachable"], report["refused"]
    assert isinstance(reachable, list)
    assert isinstance(refused, dict)
    groups: dict[str, list[str]] = {"Reachable": reachable}
    for name, answer in refused.items():
        groups.setdefault(f"Refused with {answer}", []).append(name)
    for title, names in groups.items():
        print(f"\n{title} ({len(names)}):\n" + fill(" ".join(names), _WIDTH, initial_indent="  ", subsequent_indent="  "))
