"""One self-contained page of a run: verdict, tables, curves, comparisons, gallery and provenance."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rapbench.report.means import Measured
from rapbench.report.page import sections
from rapbench.report.page.gallery import gallery_section
from rapbench.report.page.plotly_curves import colours, curve
from rapbench.report.page.plotly_ranks import agreement_figure, ranks_figure
from rapbench.report.page.sections import VIEW
from rapbench.report.page.words import options
from rapbench.report.plots import first_pixels
from rapbench.report.rank_tables import RankTable
from rapbench.report.table_text import Notes
from rapbench.results.display import METRIC_NAMES, ordered
from rapbench.results.gallery import Gallery

if TYPE_CHECKING:
    from rapbench.report.ranking_part import Ranking

HERE = Path(__file__).parent


def page(
    title: str,
    header: list[str],
    *,
    table: pd.DataFrame | None,
    published: pd.DataFrame,
    paper: pd.DataFrame | None,
    pairs: pd.DataFrame | None,
    verdict: pd.DataFrame | None,
    distance: pd.DataFrame | None,
    aopc: pd.DataFrame | None,
    images: pd.DataFrame | None,
    gallery: Gallery | None,
    provenance: dict[str, Any] | None,
    why: str,
    remarks: Notes,
    distance_remarks: Notes,
    aside: str,
    others: Sequence[Measured] = (),
    ranks: Sequence[RankTable] = (),
    explained: str = "",
    ranking: "Ranking | None" = None,
) -> str:
    """Return the page: it needs no network, and the same results give the same bytes.

    table, paper, pairs, verdict, distance, aopc: of `table1`, `beside_paper`, `pair_tests`, `verdicts`,
    `distance_table`, `regions.aopc`, or None. published: the paper's Table I, as far as it is shown. images: per-image
    results of perturbations, for what the gallery's images became. provenance: None for a page of several runs. why:
    there is no verdict, where it is empty. remarks, distance_remarks: below each sign's tables. aside: why the paper's
    numbers, or some, are not shown. others: the means of protocols that have no layout of their own here. ranks,
    explained: of a comparison's methods. ranking: how the metrics of one run rank its methods.
    """
    frames = [table, distance, aopc, *(one.means for one in others)]
    methods = pd.concat([frame["method"] for frame in frames if frame is not None])
    colour = colours(methods)
    data: dict[str, Any] = {"controls": {}, "figures": {}, "pairs": [], "gallery": None}
    shown: dict[str, Any] = dict.fromkeys(("table", "distance", "aopc", "verdict", "paper", "tests"))
    if table is not None and paper is not None:
        data["controls"]["table"] = _controls(table, VIEW)
        data["figures"]["table"] = {}
        shown["table"] = []
        for place, part in _groups(table, VIEW):
            printed = published[(published[VIEW] == list(place)).all(axis=1)]
            name = "|".join(place)
            data["figures"]["table"][name] = curve(part, printed, "value", METRIC_NAMES[place[1]], methods)
            shown["table"].append(sections.view(name, place, part, paper, colour, remarks.get(place[0], ())))
        shown["paper"] = sections.paper(paper) if len(paper) else None
    if verdict is not None:
        shown["verdict"] = sections.verdict(verdict, why, colour)
    if pairs is not None and len(pairs):
        shown["tests"] = sections.tests(pairs)
        data["pairs"] = sections.pair_rows(pairs)
    if distance is not None:
        data["controls"]["distance"] = _controls(distance, ["sign"])
        data["figures"]["distance"] = {}
        shown["distance"] = []
        means = distance.rename(columns={"mean": "value"})
        for place, part in _groups(means, ["sign"]):
            name = place[0]
            axis = METRIC_NAMES[part["metric"].iloc[0]]
            data["figures"]["distance"][name] = curve(part, part[:0], "value", axis, methods, first_pixels(name))
            shown["distance"].append(sections.view(name, place, part, None, colour, distance_remarks.get(name, ())))
    if aopc is not None:
        shown["aopc"] = [sections.aopc(part, colour) for _, part in _groups(aopc, ["perturbation"])]
    shown["others"] = []
    for number, one in enumerate(others):
        name = f"metric-{number}"
        data["controls"][name] = _controls(one.means, ["metric", "variant"])
        data["figures"][name], views = {}, []
        for place, part in _groups(one.means, ["metric", "variant"]):
            key = "|".join(place)
            metric = one.metric(place[0])
            if (part["k"] != "").all():
                data["figures"][name][key] = curve(part, part[:0], "value", metric.heading, methods, one.info.steps)
            views.append(sections.metric_view(key, part, metric, one.info, colour))
        shown["others"].append({"id": name, "name": one.protocol, "views": views})
    shown["gallery"] = None
    if gallery is not None:
        shown["gallery"], data["gallery"] = gallery_section(gallery, images)
    shown |= {"ranks": ranks, "explained": explained, "ranking": None}
    if ranking is not None:
        shown["ranking"] = sections.ranking(ranking, colour)
        figures = {"ranks": ranks_figure(ranking, methods), "agreement of metrics": agreement_figure(ranking)}
        data["figures"]["ranking"] = figures
        data["controls"]["ranking"] = {"figure": options(list(figures))}
    names = {"verdict": "Verdict", "table": "Table I", "distance": "D_K", "aopc": "AOPC", "paper": "Beside the paper",
             "ranking": "Ranks", "ranks": "Ranks", "tests": "Pairs", "gallery": "Gallery"}  # fmt: skip
    there = [(name, text) for name, text in names.items() if shown[name]]
    before = next(
        (place for place, (name, _) in enumerate(there) if name in ("paper", "ranking", "ranks", "tests", "gallery")),
        len(there),
    )
    there[before:before] = [(one["id"], one["name"]) for one in shown["others"]]
    template = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("page.html")
    return template.render(
        title=title,
        header=header,
        sections=[*there, ("provenance", "Provenance")],
        controls=data["controls"],
        has_paper=paper is not None and len(paper) > 0,
        provenance=_provenance(provenance or {}),
        several=provenance is None,
        aside=aside,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # ours, as are the scripts
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs().replace("</script", r"<\/script")),
        data=Markup(_json(data)),
        **shown,
    )


def _json(data: dict[str, Any]) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _groups(table: pd.DataFrame, keys: list[str]) -> Iterable[tuple[tuple[str, ...], pd.DataFrame]]:
    for place, part in table.groupby(keys, sort=False):
        yield tuple(str(name) for name in place), part


def _controls(table: pd.DataFrame, keys: list[str]) -> dict[str, list[dict[str, Any]]]:
    return {key: options(ordered(key, table[key])) for key in keys}


def _provenance(provenance: dict[str, Any]) -> dict[str, Any] | None:
    if not provenance:
        return None

    def at(*keys: str) -> Any:
        value: Any = provenance
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    commit = f"{at('git', 'commit')}{' (with uncommitted changes)' if at('git', 'dirty') else ''}"
    facts = {
        "Model": ", ".join(str(at("model", key)) for key in ("name", "architecture", "source") if at("model", key)),
        "Weights (SHA-256)": at("model", "weights_sha256"),
        "Data": at("data", "description"),
        "Images": f"{at('subset', 'n')}, subset {at('subset', 'sha256')}" if at("subset") else None,
        "Seeds": ", ".join(f"{name} {seed}" for name, seed in (at("seeds") or {}).items()),
        "Started": at("started"),
        "Took": f"{at('seconds')} s" if at("seconds") is not None else None,
        "Commit": commit if at("git") else None,
        "Machine": ", ".join(f"{name} {value}" for name, value in (at("machine") or {}).items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in (at("versions") or {}).items()),
    }
    return {"facts": [(name, fact) for name, fact in facts.items() if fact], "whole": json.dumps(provenance, indent=1)}
