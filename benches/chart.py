"""A line chart as plain SVG that is readable on light and dark pages."""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 74, 170, 52, 56
# Told apart by people with any kind of colour vision; the second of each pair is for dark pages.
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#e69f00"),
    ("#009e73", "#2fd3a3"),
    ("#a8508a", "#e39fc8"),
    ("#6b5b00", "#f0e442"),
    ("#5b5b5b", "#b5b5b5"),
)
MARKS = ("circle", "square", "diamond", "triangle", "circle", "square")
LABEL_HEIGHT = 17
Y_TICKS = 5
X_TICKS_MAX = 8


@dataclass(frozen=True)
class Series:
    name: str
    # (x, y), ordered by x; x above 0.
    points: list


@dataclass(frozen=True)
class Chart:
    """Logarithmic in x, linear from zero in y."""

    title: str
    x_axis: str
    y_axis: str
    series: list

    def svg(self):
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img" font-family="system-ui, sans-serif" font-size="13">',
            f"<title>{escape(self.title)}</title>",
            f"<desc>{escape(self._description())}</desc>",
            _style(len(self.series)),
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            f'<text class="ink" x="{LEFT}" y="26" font-size="16" font-weight="600">{escape(self.title)}</text>',
            f'<text class="faint" x="{LEFT}" y="43">{escape(self.y_axis)}</text>',
        ]
        parts += self._y_grid()
        parts += self._x_grid()
        for n, series in enumerate(self.series):
            parts += self._line(n, series)
        parts += self._labels()
        parts.append("</svg>\n")
        return "\n".join(parts)

    def _description(self):
        rows = (
            f"{series.name}: " + ", ".join(f"{short(x)} {self.x_axis}: {short(y)} {self.y_axis}" for x, y in series.points)
            for series in self.series
        )
        return "; ".join(rows)

    def _xs(self):
        return sorted({x for series in self.series for x, _ in series.points})

    def _x(self, x):
        xs = self._xs()
        low, high = math.log(xs[0]), math.log(xs[-1])
        share = (math.log(x) - low) / (high - low) if high > low else 0.5
        return LEFT + 12 + share * (WIDTH - LEFT - RIGHT - 24)

    def _y_step(self):
        highest = max((y for series in self.series for _, y in series.points), default=0) or 1
        return nice(highest / Y_TICKS)

    def _y_top(self):
        highest = max((y for series in self.series for _, y in series.points), default=0) or 1
        return math.ceil(highest / self._y_step()) * self._y_step()

    def _y(self, y):
        return HEIGHT - BOTTOM - y / self._y_top() * (HEIGHT - TOP - BOTTOM)

    def _y_grid(self):
        step = self._y_step()
        for n in range(round(self._y_top() / step) + 1):
            y = self._y(n * step)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="faint" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(n * step)}</text>'

    def _x_grid(self):
        xs = self._xs()
        every = math.ceil(len(xs) / X_TICKS_MAX)
        bottom = HEIGHT - BOTTOM
        for x in xs[::every]:
            at = self._x(x)
            yield f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
            yield f'<text class="faint" x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{short(x)}</text>'
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
        middle = (LEFT + WIDTH - RIGHT) / 2
        yield f'<text class="faint" x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(self.x_axis)}</text>'

    def _line(self, n, series):
        at = [(self._x(x), self._y(y)) for x, y in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        yield f'<polyline class="line s{n % len(COLOURS)}" points="{path}"/>'
        for x, y in at:
            yield mark(MARKS[n % len(MARKS)], x, y, f"fill{n % len(COLOURS)}")

    def _labels(self):
        """Names beside the ends of their lines, moved apart where they would overlap."""
        ends = sorted((self._y(series.points[-1][1]), n) for n, series in enumerate(self.series))
        lowest = HEIGHT - BOTTOM - (len(ends) - 1) * LABEL_HEIGHT
        previous = TOP - LABEL_HEIGHT
        for y, n in ends:
            y = max(min(y, lowest), previous + LABEL_HEIGHT)
            previous, lowest = y, lowest + LABEL_HEIGHT
            x = WIDTH - RIGHT + 14
            yield mark(MARKS[n % len(MARKS)], x, y, f"fill{n % len(COLOURS)}")
            yield f'<text class="ink" x="{x + 10}" y="{y + 4:.1f}">{escape(self.series[n].name)}</text>'


def _style(count):
    light, dark = [], []
    for n, colours in enumerate(COLOURS[: max(count, 1)]):
        for rules, colour in zip((light, dark), colours):
            rules.append(f".s{n}{{stroke:{colour}}} .fill{n}{{fill:{colour}}}")
    return (
        "<style>"
        ".page{fill:#ffffff} .ink{fill:#1f2328} .faint{fill:#59636e} .grid{stroke:#dfe3e8} .axis{stroke:#8c959f} "
        ".line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round} " + " ".join(light) + " "
        "@media (prefers-color-scheme: dark){"
        ".page{fill:#0d1117} .ink{fill:#e6edf3} .faint{fill:#9da7b3} .grid{stroke:#272d36} .axis{stroke:#6e7681} "
        + " ".join(dark)
        + "}</style>"
    )


def mark(kind, x, y, style):
    if kind == "circle":
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    corners = {
        "square": ((-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)),
        "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)),
        "triangle": ((0, -5), (4.6, 3.6), (-4.6, 3.6)),
    }[kind]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon class="{style}" points="{points}"/>'


def nice(step):
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)


def short(value):
    """12000 as 12 k; no more digits than a reader of an axis needs."""
    for size, suffix in ((1_000_000, " M"), (1_000, " k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"
