"""Where the marks of a chart lie. The shapes are drawn by ``reports/templates/charts.jinja``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from albert_audit.rendering.text import significant
from albert_audit.types import Estimate, SelfCheck

_KINDS = (("wide", "simultaneous_0.95"), ("usual", "0.95"), ("inner", "0.90"))
_FARTHEST = 8.0  # multiples of the limit that the forest chart shows before it clips


@dataclass(frozen=True, slots=True)
class Line:
    """One estimate to draw, in the units of the axis; its label may take several lines."""

    label: tuple[str, ...]
    tone: str
    value: float
    spans: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval as drawn; an end that lies outside the chart is cut off and gets an arrow."""

    kind: str
    x1: str
    x2: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line as drawn."""

    label: tuple[tuple[str, str], ...]
    tone: str
    y: str
    dot: str
    bars: tuple[Bar, ...]
    cut_left: bool
    cut_right: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """A dot-and-interval chart."""

    width: int
    height: int
    left: str
    right: str
    bottom: str
    null: str
    band: tuple[str, str] | None
    ticks: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def line(label: Sequence[str], tone: str, estimate: Estimate, *, unit: float | None = None) -> Line:
    """Return `estimate` as a line, as the distance from its null in multiples of `unit` if given."""

    def place(value: float) -> float:
        return (value - estimate.null) / unit if unit else value

    known = ((kind, estimate.intervals.get(key)) for kind, key in _KINDS)  # type: ignore[call-overload]
    spans = tuple((kind, place(i.low), place(i.high)) for kind, i in known if i is not None)
    return Line(tuple(label), tone, place(estimate.value), spans)


def plot(
    lines: Sequence[Line],
    *,
    null: float,
    limit: float | None,
    width: int,
    gutter: int = 0,
    step: int = 24,
    stacked: bool = False,
    multiples: bool = False,
    axis: bool = True,
) -> Plot:
    """Lay out a chart.

    Parameters
    ----------
    gutter : int
        Width of the column of labels at the left.
    stacked : bool
        Put each label above its line instead, for narrow screens.
    multiples : bool
        Whether the axis counts in multiples of the limit.
    """
    ends = [v for item in lines for v in (item.value, *(e for _, a, b in item.spans for e in (a, b)))]
    ends += [null] + ([null - limit, null + limit] if limit else [])
    low, high = min(ends), max(ends)
    if multiples:
        low, high = max(min(low, -1.25), -_FARTHEST), min(max(high, 1.25), _FARTHEST)
    pad = 0.06 * ((high - low) or 1.0)
    low, high = low - pad, high + pad
    left, right = gutter + 6.0, width - 6.0

    def x(value: float) -> str:
        inside = min(max(value, low), high)
        return f"{left + (inside - low) / (high - low) * (right - left):.1f}"

    rows = []
    for i, item in enumerate(lines):
        top = i * step
        y = top + (step - 9 if stacked else step / 2)
        first = top + 13 if stacked else y + 4 - 8 * (len(item.label) - 1)
        label = tuple((text, f"{first + 16 * k:.1f}") for k, text in enumerate(item.label))
        bars = tuple(Bar(kind, x(a), x(b)) for kind, a, b in item.spans)
        rows.append(
            Row(
                label, item.tone, f"{y:.1f}", x(item.value), bars,
                any(a < low for _, a, _ in item.spans), any(b > high for _, _, b in item.spans),
            )
        )  # fmt: skip
    bottom = len(lines) * step + 2
    ticks: tuple[tuple[str, str], ...] = ()
    if axis:
        marks = [null] if limit is None else [null - limit, null, null + limit]
        names = ["−1 × limit", "no effect", "+1 × limit"] if multiples else [significant(m) for m in marks]
        ticks = tuple((x(m), name) for m, name in zip(marks, names, strict=True))
    band = (x(null - limit), x(null + limit)) if limit else None
    return Plot(
        width, bottom + (20 if axis else 0), f"{left:.1f}", f"{right:.1f}", str(bottom), x(null), band, ticks,
        tuple(rows),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """The detection curve: share of PASS and FAIL by planted effect."""

    width: int
    height: int
    grid: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[str, str], ...]
    passed: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]


def curve(check: SelfCheck) -> Curve:
    """Lay out the detection curve of a self-check."""
    width, height, left, right, top, bottom = 340, 170, 38.0, 328.0, 10.0, 142.0
    farthest = max((p.planted for p in check.curve), default=1.0) or 1.0

    def x(planted: float) -> str:
        return f"{left + planted / farthest * (right - left):.1f}"

    def y(share: float) -> str:
        return f"{bottom - share * (bottom - top):.1f}"

    points = sorted(check.curve, key=lambda p: p.planted)
    return Curve(
        width, height,
        tuple((y(s), f"{100 * s:.0f} %") for s in (0.0, 0.5, 1.0)),
        tuple((x(p.planted), f"{significant(p.planted)} ×") for p in points if math.isfinite(p.planted)),
        tuple((x(p.planted), y(p.passed.rate)) for p in points),
        tuple((x(p.planted), y(p.failed.rate)) for p in points),
    )  # fmt: skip
