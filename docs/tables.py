"The benchmark as pages: one table that can be sorted, and for each data set a page with all models, parity and coverage."
import html
from pathlib import Path

MODELS = ("l-g-dcnn", "fused", "lightgbm")  # columns of their own; the lowest of all models has one, too


def records(root: Path) -> list[dict]:
    "Return what was measured and published, a record for each set, model and protocol."
    from lgdcnn.benchmark.store import ResultStore
    from lgdcnn.comparison.standing import informed
    return informed(ResultStore(root / "results" / "benchmark").rows(), root / "results" / "table")


def by_set(found: list[dict]) -> dict[str, list[dict]]:
    "Sort records by data set, sets in the order of the plan, models by how well they do."
    from lgdcnn.benchmark.plan import by_size
    sets = {}
    for name in (*by_size(), *by_size("classification")):
        own = [r for r in found if r["dataset"] == name and r["value"] is not None]
        sets[name] = sorted(own, key=lambda r: r["value"] if r["metric"] == "mae" else -r["value"])
    return sets


def number(value, digits: int = 3) -> str:
    "Write a number; nothing for None."
    return "" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def counted(own: list[dict], model: str) -> dict | None:
    "Return the complete record by which a model counts on a set."
    from lgdcnn.comparison.table import competing
    return next((r for r in competing(own, own[0]["dataset"]) if r["model"] == model), None) if own else None


def measured(r: dict | None) -> str:
    "Write a mean with its spread."
    if not r: return ""
    return number(r["value"]) + (f" ± {number(r['mae_std'], 2)}" if r["mae_std"] else "")


def cell(text: str, value=None) -> str:
    key = "" if value is None else f' data-value="{value:.9g}"'
    return f"<td{key}>{text}</td>"


def table_page(found: list[dict]) -> str:
    "Make the table of all sets: a plain HTML table, which a script makes sortable."
    from lgdcnn.comparison.views import short_name
    from lgdcnn.data.registry import cards
    heads = ["data set", "property", "unit", "rows", *MODELS, "lowest here", "L-G-DCNN, published", "best published"]
    lines = []
    for name, own in by_set(found).items():
        card, best = cards()[name], own[0] if own else None
        ours = [counted(own, m) for m in MODELS]
        known = best or {"published_lgdcnn": None, "published_best": None, "published_best_model": ""}
        cells = [f'<td><a href="sets/{name}.html">{html.escape(short_name(name))}</a></td>',
                 cell(html.escape(card.property)),
                 cell(html.escape("" if card.unit == "1" else card.unit) if card.task == "regression" else "ROC-AUC"),
                 cell(f"{card.rows:,}", card.rows),
                 *(cell(measured(r), r and r["value"]) for r in ours),
                 cell(f"{number(best['value'])} {best['model']}" if best else "", best and best["value"]),
                 cell(number(known["published_lgdcnn"]), known["published_lgdcnn"]),
                 cell(f"{number(known['published_best'])} {known['published_best_model']}".strip(), known["published_best"])]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    return "\n".join([
        "# The benchmark", "",
        "Test errors on the 31 benchmark sets: mean absolute error in the unit of the set, lower is better; ROC-AUC of hard "
        "predictions, higher is better, where classes are learned. ± is the spread of seeds or folds. What others published "
        "stands in columns of its own. Each set has a page with all models, and with parity and coverage where predictions "
        "are stored. Numbers of different sets are not comparable: sort by one column to find a set, not a winner. "
        "How it is read, and where it is not beaten: [where not](91_where_not.ipynb).", "",
        '<div class="table-wrapper">', f'<table class="sortable docutils"><thead><tr>{head}</tr></thead>',
        "<tbody>", *lines, "</tbody></table></div>", "",
        "```{toctree}", ":hidden:", "", *(f"sets/{name}.md" for name in by_set(found)), "```", ""])


def set_pages(root: Path, found: list[dict], target: Path) -> None:
    "Write a page for each set, and its pictures."
    from lgdcnn.benchmark.store import ResultStore
    from lgdcnn.comparison.evidence import read_evidence
    from lgdcnn.comparison.views import coverage_by_set
    (target / "sets").mkdir()
    coverage = coverage_by_set(ResultStore(root / "results" / "benchmark").rows())
    evidence = read_evidence(root / "results" / "table")
    for name, own in by_set(found).items():
        points = root / "results" / "table" / "points" / f"{name}.csv"
        lines = [e for e in evidence if e["dataset"] == name]
        held = [r for r in coverage if r["dataset"] == name]
        drawn = points.is_file() and draw(name, points, lines, held, target / "sets" / f"{name}.png")
        (target / "sets" / f"{name}.md").write_text(set_page(name, own, bool(drawn), held), encoding="utf-8")


def draw(name: str, points: Path, evidence: list[dict], coverage: list[dict], path: Path) -> bool:
    "Draw parity and coverage of the main network on one set, from what is stored."
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    from lgdcnn.comparison.views import plain_unit
    from lgdcnn.data.registry import cards
    from lgdcnn.plots.style import set_style
    from lgdcnn.plots.table import dense_parity
    set_style()
    unit = plain_unit(cards()[name].unit)
    seed = min(e["seed"] for e in evidence)
    own = [e for e in evidence if e["seed"] == seed]
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.1))
    note = f"MAE {sum(e['mae'] for e in own) / len(own):.3g} {unit}".rstrip() + f"\nn = {sum(e['n_test'] for e in own):,}"
    dense_parity(pd.read_csv(points), note, ax=axes[0])
    axes[0].set(xlabel=f"known value ({unit})" if unit else "known value", ylabel="predicted value")
    nominal, found = ([100 * r[k] for r in coverage] for k in ("nominal", "found"))
    axes[1].plot([40, 100], [40, 100], "--", color="0.5", lw=0.5)
    axes[1].errorbar(nominal, found, yerr=[100 * r["chance"] for r in coverage], fmt="o", ms=4, capsize=2, lw=0.8)
    axes[1].set(xlabel="nominal coverage (%)", ylabel="rows inside (%)", xlim=(45, 100), ylim=(40, 102))
    fig.savefig(path, dpi=130)
    plt.close(fig)
    return True


def set_page(name: str, own: list[dict], drawn: bool, coverage: list[dict]) -> str:
    "Describe a set and list what was measured on it."
    from lgdcnn.comparison.views import short_name
    from lgdcnn.data.registry import cards
    card = cards()[name]
    unit = f" in {card.unit}" if card.unit not in ("", "1") else ""
    parts = [f"# {short_name(name)}", "", f"`{name}`: {card.property}{unit}, {card.rows:,} rows, "
             f"{card.elements} elements. {card.about} Licence: {card.licence}. {card.citation}", ""]
    if drawn:
        at = next((r for r in coverage if r["nominal"] == 0.9), None)
        words = f"; nominal 90 % intervals hold {at['found']:.1%} of {at['n_test']:,} test rows" if at else ""
        parts += [f'<img src="{name}.png" class="gallery" alt="Left: predictions of l-g-dcnn against known values of '
                  f'{short_name(name)} with the diagonal. Right: share of test rows inside intervals against nominal '
                  'coverage.">', "",
                  "Left: l-g-dcnn on test rows it never saw, one seed, with the 90 % interval of a few rows. Right: "
                  f"coverage of its calibrated intervals, bars for what chance allows{words}.", ""]
    if not own: return "\n".join([*parts, "No model has been run on this set.", ""])
    metric = "MAE" if own[0]["metric"] == "mae" else "ROC-AUC of hard predictions"
    parts += [f"## All models: {metric}" + (f" ({card.unit})" if card.task == "regression" and card.unit != "1" else ""), "",
              "Measured here, the best first; several protocols of a network are several rows.", "",
              "| model | protocol | runs | folds | value | ± | over |", "|---|---|--:|--:|--:|--:|---|"]
    parts += [f"| {r['model']} | {r['protocol']} | {r['n_runs']} | {r['folds']}/{r['of_folds']} | {number(r['value'], 4)} "
              f"| {number(r['mae_std'], 2)} | {r['spread_over'] if r['mae_std'] else ''} |" for r in own]
    known = [(f"{own[0]['published_best_model']}, the best of composition alone", own[0]["published_best"]),
             ("L-G-DCNN, by its authors", own[0]["published_lgdcnn"])]
    parts += ["", "Published by others: " + "; ".join(f"{number(v, 4)} ({who})" for who, v in known if v is not None) + "."
              if any(v is not None for _, v in known) else "", "", "[All sets](../table.md)", ""]
    return "\n".join(parts)
