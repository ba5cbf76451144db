"""The figures of a study as files, drawn by matplotlib: for slides, papers and report.md."""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from train.study.panels import NO_ARM, Figure, Series
from train.study.units import si
from train.workdir import whole_file, write_text

# After Okabe and Ito (2008) and Tol (2021), darkened to be seen on white; as in templates/page.css.
COLOURS = ("#0072b2", "#c44f00", "#008060", "#a8437f", "#8a6a00", "#0f8a9d", "#5c5c5c")
MARKERS = "osD^vPX"
DASHES = ((), (6, 2), (1.5, 1.5), (6, 2, 1.5, 2), (9, 3), (3, 1.5), (1, 3))
INK = "#1b1f24"
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
PANEL = (3.3, 2.3)  # inches
HEAD = 0.45  # inches for the legend
DPI = 130


def write(figures: Sequence[Figure], arms: Sequence[str], folder: Path) -> None:
    """Writes each figure as NAME.svg and NAME.png, unless it is there already: drawing is slow.

    Args:
      figures: as train/study/figures.py makes them.
      arms: their names for people.
      folder: is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        mark = f"<!-- {digest(figure, arms)} -->"
        vectors, pixels = (folder / f"{figure['name']}.{suffix}" for suffix in ("svg", "png"))
        if pixels.exists() and vectors.exists() and mark in vectors.read_text(encoding="utf-8"):
            continue
        with mpl.rc_context(STYLE | {"svg.hashsalt": figure["name"]}):
            drawing = draw(figure, arms)
            FigureCanvasAgg(drawing)
            with whole_file(pixels) as file:
                drawing.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
            write_text(vectors, f"{svg(drawing, figure['title'])}{mark}\n")


def digest(figure: Figure, arms: Sequence[str]) -> str:
    """Of all that decides what a figure looks like, this file included."""
    source = Path(__file__).read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps([figure, list(arms), source]).encode()).hexdigest()


def draw(figure: Figure, arms: Sequence[str]) -> Drawing:
    """A figure's panels in a grid, with one legend."""
    panels = figure["panels"]
    columns = min(figure["columns"] or 3, len(panels))
    rows = -(-len(panels) // columns)
    width, height = PANEL[0] * columns, PANEL[1] * rows + HEAD
    drawing = Drawing(figsize=(width, height))
    grid = list(drawing.subplots(rows, columns, squeeze=False).flat)
    drawing.subplots_adjust(
        left=0.62 / width, right=1 - 0.1 / width, bottom=0.48 / height,
        top=1 - (HEAD + 0.25) / height, wspace=0.24, hspace=0.5,
    )  # fmt: skip
    shared: dict[tuple[str, str], Axes] = {}
    for axes, panel in zip(grid, panels, strict=False):
        for side in ("x", "y"):
            key = (side, panel.get("share" if side == "x" else "share_y", ""))
            if key in shared:
                getattr(axes, f"share{side}")(shared[key])
            shared.setdefault(key, axes)
        for series in panel["series"]:
            plot(axes, series, figure["name"])
        axes.set_title(panel["title"])
        axes.set_ylabel(panel.get("y") or figure["y"])
        axes.set_xlabel(figure["x"]["label"])
        x = figure["x"]
        if x["kind"] == "log":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
        if x["kind"] == "linear":
            axes.xaxis.set_major_locator(MaxNLocator(5))
        if x["kind"] == "ordinal":
            axes.set_xticks(range(len(x["ticks"])), x["ticks"])
            axes.set_xlim(-0.5, len(x["ticks"]) - 0.5)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.minorticks_off()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    drawing.legend(handles=legend(figure, arms), loc="upper left", ncols=4 if columns > 1 else 2)
    return drawing


def plot(axes: Axes, series: Series, name: str) -> None:
    """One series, in its arm's colour, marker and dashes."""
    x, y = np.array(series["x"], float), np.array(series["y"], float)
    colour, marker, dashes = look(series)
    if series["kind"] == "mean":
        low, high = (np.array(series.get(k) or y, float) for k in ("low", "high"))
        reach = np.nan_to_num([y - low, high - y]).clip(0)
        axes.errorbar(
            x, y, reach, color=colour, capsize=2.5, marker=marker, markersize=4.5, linewidth=1.3,
            elinewidth=1, dashes=dashes,
        )  # fmt: skip
    elif series["kind"] == "dots":
        axes.plot(x, y, ".", color=colour, alpha=0.45, markersize=4)
    else:
        few = marker if len(x) <= 12 and series["arm"] != NO_ARM else ""
        axes.plot(
            x, y, color=colour, linewidth=0.9, alpha=0.8, dashes=dashes, marker=few, markersize=2.5
        )


def look(series: Series) -> tuple[str, str, tuple[float, ...]]:
    """Colour, marker and dashes of a series."""
    arm = series["arm"]
    if arm == NO_ARM:
        return INK, "", DASHES[series.get("style") == "held out"]
    return COLOURS[arm % len(COLOURS)], MARKERS[arm % len(MARKERS)], DASHES[arm % len(DASHES)]


def legend(figure: Figure, arms: Sequence[str]) -> list[Line2D]:
    """A handle for each arm (or kind of curve) that the figure shows."""
    handles: dict[str, Line2D] = {}
    for panel in figure["panels"]:
        for series in sorted(panel["series"], key=lambda s: s["arm"]):
            label = series.get("style") or arms[series["arm"]]
            colour, marker, dashes = look(series)
            line = Line2D([], [], color=colour, marker=marker, dashes=dashes, markersize=4.5)
            line.set_label(label)
            handles.setdefault(label, line)
    return list(handles.values())


def svg(drawing: Drawing, title: str) -> str:
    """The drawing without dates, versions or outside addresses: the same twice."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawing.savefig(buffer, format="svg", metadata=nothing | {"Title": title})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # the prologue's DTD is an outside address
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
