"""What was measured, as one table: minimum / median per peer, the ratio to the peer that an aim names, and whether the aim is met."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.measure import Samples
from bench.peers import NAMES

US = "casemate"


@dataclass(frozen=True)
class Aim:
    """At most `limit` times the figures of `against`, minimum and median both; or, without a peer, a minimum of at most `limit`."""

    limit: float
    against: str = ""


@dataclass(frozen=True)
class Row:
    name: str
    samples: Samples
    aim: Aim | None = None
    unit: str = "ms"
    against: str = "runc"
    notes: dict[str, str] = field(default_factory=dict)  # why a peer has no figure

    def ratio(self) -> tuple[float, float] | None:
        """casemate's minimum and median over the other's."""
        ours, theirs = self.samples.get(US), self.samples.get(self.against)
        if not ours or not theirs or not min(theirs):
            return None
        return min(ours) / min(theirs), median(ours) / median(theirs)

    def verdict(self) -> str:
        if self.aim is None:
            return ""
        ours, ratio = self.samples.get(US), self.ratio()
        if not ours or (self.aim.against and ratio is None):
            return "not measured"
        got = max(ratio) if self.aim.against and ratio else min(ours)
        if got <= self.aim.limit:
            return "met"
        return f"missed by {got - self.aim.limit:.2f}" + (f" x {self.aim.against}" if self.aim.against else f" {self.unit}")

    def wanted(self) -> str:
        if self.aim is None:
            return ""
        return f"<= {self.aim.limit:g} x {self.aim.against}" if self.aim.against else f"<= {self.aim.limit:g} {self.unit}"

    def document(self) -> dict[str, Any]:
        figures = {peer: {"minimum": min(values), "median": median(values), "samples": values} for peer, values in self.samples.items()}
        ratio = self.ratio()
        return {
            "case": self.name, "unit": self.unit, "peers": figures, "against": self.against,
            "ratio": {"minimum": ratio[0], "median": ratio[1]} if ratio else None,
            "aim": self.wanted(), "verdict": self.verdict(), "notes": self.notes,
        }  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.0f}" if value == 0 or value >= 1000 else f"{value:.1f}"


def _cell(row: Row, peer: str) -> str:
    values = row.samples.get(peer)
    return f"{_number(min(values))} / {_number(median(values))}" if values else "failed" if peer in row.notes else "-"


def text(rows: list[Row]) -> str:
    lines = [["case", "unit", *NAMES, "ratio", "to", "aim", "result"]]
    for row in rows:
        ratio = row.ratio()
        shown = [f"{ratio[0]:.2f} / {ratio[1]:.2f}", row.against] if ratio else ["-", ""]
        lines.append([row.name, row.unit, *(_cell(row, peer) for peer in NAMES), *shown, row.wanted(), row.verdict()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    notes = {f"{peer}: {note}": None for row in rows for peer, note in row.notes.items()}  # once each, in order
    return "\n".join(["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines] + ["", *notes])
