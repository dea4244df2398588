"""What is wrong with a drawn figure: texts that cover each other or the data, and "(1)" for a unit.

Only what is drawn counts, where it is drawn: each text and line is noted while the figure is drawn once.
"""
from contextlib import contextmanager

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.text import Text
from matplotlib.transforms import Bbox

LEAST = 1.5  # points by which two boxes must overlap in both directions to count: fonts leave room around letters


@contextmanager
def noted(kind, into: list):
    "Note all artists of a kind while they are drawn."
    draw = kind.draw
    def noting(self, *args, **kwargs):
        into.append(self)
        return draw(self, *args, **kwargs)
    kind.draw = noting
    try: yield
    finally: kind.draw = draw


def faults(figure) -> list[str]:
    "Draw a figure and name its faults."
    texts = []
    figure.draw_without_rendering()
    with noted(Text, texts): figure.draw_without_rendering()
    texts = [t for t in dict.fromkeys(texts) if t.get_text().strip() and t.get_visible() and t.get_rotation() in (0, 90)]
    boxes = [(t, t.get_window_extent().padded(-LEAST / 2 * figure.dpi / 72)) for t in texts]
    boxes = [(t, b) for t, b in boxes if b.width > 0 and b.height > 0]
    return [*(f"a unit that is none: {t.get_text()}" for t in texts if "(1)" in t.get_text()),
            *(f"{a.get_text()!r} covers {b.get_text()!r}" for k, (a, x) in enumerate(boxes) for b, y in boxes[:k] if x.overlaps(y)),
            *(f"{t.get_text()!r} covers data" for t, box in boxes if covers_data(t, box)),
            *("the key covers data" for ax in figure.axes if ax.get_legend() and key_covers_data(ax))]


def covers_data(text: Text, box: Bbox) -> bool:
    "Tell whether a note covers a marked or drawn point; a name in the middle of its mark is meant to."
    if text.axes is None or text.get_ha() == "center" or text not in text.axes.texts: return False
    return any(box.contains(x, y) for x, y in points(text.axes))


def key_covers_data(ax) -> bool:
    "Tell whether the key of some axes lies on data."
    key = ax.get_legend()
    inner = key.get_window_extent().padded(-key.borderpad * key.get_texts()[0].get_fontsize() * ax.figure.dpi / 72)
    return any(inner.contains(x, y) for x, y in points(ax))


def points(ax) -> np.ndarray:  # (n, 2), in pixels
    "List the places of marks and, closely, of lines; those of a line across the whole axes are no data."
    found = [np.zeros((0, 2))]
    for line in ax.lines:
        if line.get_transform() != ax.transData or not line.get_visible() or not len(line.get_xdata()): continue
        if line.get_linestyle() in ("--", ":") and line.get_marker() in ("None", ""): continue  # for orientation
        xy = ax.transData.transform(np.asarray(line.get_xydata(), dtype=float))
        if line.get_linestyle() != "None" and len(xy) > 1:
            at = np.linspace(0, len(xy) - 1, 40 * len(xy))
            xy = np.column_stack([np.interp(at, np.arange(len(xy)), xy[:, k]) for k in (0, 1)])
        found.append(xy[np.isfinite(xy).all(1)])
    for marks in ax.collections:
        if isinstance(marks, PathCollection): found.append(marks.get_offset_transform().transform(np.asarray(marks.get_offsets())))
    return np.concatenate(found)
