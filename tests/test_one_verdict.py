"""Cards, table, CSV, Markdown and terminal say one verdict, and what they say follows from the numbers."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rapbench.report import layout_parts as report
from rapbench.report.about import About, Paper
from rapbench.report.verdict import CONTROLS, SYMBOLS
from rapbench.results.display import NAMES
from tests.results import write_report

OUTCOMES = {"better", "worse", "no difference shown", "mixed"}
LABELS = {NAMES.get(name, name): name for name in (*NAMES, "mine", "yours")}
CHANGES = {f"{name} of {sign} pixels": (sign, name) for name in ("removal", "shuffling")
           for sign in ("positive", "negative")}  # fmt: skip


def generated(seed: int) -> tuple[pd.DataFrame, dict]:
    """Results of random methods, images and K, with effects of every size, ties, and what makes verdicts odd."""
    draw = np.random.default_rng(seed)
    n = int(draw.choice([1, 2, 6, 12, 30, 60]))
    kind = draw.choice(["plain", "plain", "tied", "constant", "right", "wrong", "nan", "contrary"])
    pool = ["rap", "lrp_a2b1", "sensitivity", "gradient_x_input", "mine", "yours"]
    methods = list(draw.choice(pool, size=int(draw.integers(0, 5)), replace=False))
    controls = [name for name in CONTROLS if draw.random() < 0.75]
    methods += controls if methods or controls else ["random"]
    start = draw.normal(10, 2, n)
    frames = []
    for sign in ("positive", "negative")[: int(draw.integers(1, 3))]:
        for method in methods:
            if sign == "negative" and method == "edge":
                continue
            shift = 0.0 if method in CONTROLS else float(draw.choice([-3, 0, 0, 0.2, 3]))
            rows = slice(0, n) if draw.random() < 0.8 else slice(0, max(1, n // 2))
            for perturbation in ("removal", "shuffling"):
                for k in ["0", *draw.permutation(["250", "500", "all"])[: int(draw.integers(1, 4))]]:
                    logit = start if k == "0" else start - 4 + shift + draw.normal(0, 1, n)
                    correct = start > 0 if k == "0" else logit > 6
                    if kind == "contrary":
                        correct = ~correct
                    if kind == "tied":
                        logit = np.round(logit / 4)
                    if kind == "constant":
                        logit = np.full(n, 3.0)
                    if kind in ("right", "wrong"):
                        correct = np.full(n, kind == "right")
                    if kind == "nan" and k != "0" and method in ("rap", "random"):
                        logit = np.where(np.arange(n) == 0, np.nan, logit)
                    values = {"image": [f"{i}.JPEG" for i in range(n)], "correct": correct, "logit": logit}
                    same = {"method": method, "sign": sign, "perturbation": perturbation, "k": k}
                    pixels = {"label": 0, "predicted": np.where(correct, 0, 1), "selected": min(300, n)}
                    frames.append(pd.DataFrame(values | same | pixels)[rows].astype({"logit": "float32"}))
    return pd.concat(frames, ignore_index=True), {"n": n, "kind": kind}


class Page(HTMLParser):
    """The verdict's cards and table, as a reader sees them: lists of (heading, outcome, methods) and of rows."""

    def __init__(self, text):
        super().__init__()
        self.cards, self.rows, self.headings, self.at, self.badge = [], [], [], None, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        kind = dict(attributes).get("class", "")
        if tag == "h3":
            self.at = "heading"
            self.cards.append(["", []])
        elif tag == "li":
            self.cards[-1][1].append("")
            self.at = "outcome"
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.at = "cell"
        elif kind.startswith("badge"):
            self.badge = kind.split()[1]
        if tag in ("br", "small") and self.at == "cell":
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag):
        if tag in ("h3", "li", "td", "th"):
            self.at = None

    def handle_data(self, data):
        if self.at == "heading":
            self.cards[-1][0] += data
        elif self.at == "outcome":
            self.cards[-1][1][-1] += data
        elif self.at == "cell":
            self.rows[-1][-1] += data


def column_of(heading: str) -> tuple[str, str, str]:
    """Return the sign, perturbation and control that a heading names."""
    change, _, control = heading.strip().lower().partition(", against ")
    by_name = {NAMES[name].lower(): name for name in CONTROLS}
    return *CHANGES[change], by_name[control]


def outcome_of(text: str, after: str = "") -> str:
    """Return the outcome that a text names after its symbol; symbol and word must go together."""
    match = re.match(rf"([{''.join(SYMBOLS.values())}]) ({'|'.join(OUTCOMES)}){after}", text.strip())
    assert match, text
    assert SYMBOLS[match[2]] == match[1]
    return match[2]


def listed(lines) -> dict:
    """Return {(sign, perturbation, control, method): outcome} of (heading, line) pairs, each line an outcome."""
    found = {}
    for heading, line in lines:
        outcome = outcome_of(line)
        for name in re.split(r",\s+", line.strip()[len(outcome) + 2 :].lstrip(": ")):
            place = (*column_of(heading), LABELS[name.strip()])
            assert place not in found
            found[place] = outcome
    return found


def in_cards(page: str) -> dict:
    section = page.partition('<div class="findings">')[2].partition('<div class="scroll">')[0]
    return listed((heading, " ".join(line.split())) for heading, lines in Page(section).cards for line in lines)


def in_page_table(page: str) -> dict:
    section = page.partition('<section id="verdict">')[2].partition("</section>")[0]
    if "<table" not in section:
        return {}
    head, *rows = Page("<table" + section.partition("<table")[2].partition("</table>")[0]).rows
    columns = [column_of(re.sub(r"[|\s]+against ", ", against ", cell)) for cell in head[1:]]
    return {(*column, LABELS[row[0].strip()]): outcome_of(" ".join(cell.split())) for row in rows
            for column, cell in zip(columns, row[1:], strict=True) if cell.strip() != "not compared"}  # fmt: skip


def in_markdown(text: str) -> dict:
    section = text.partition("### Against the controls")[2].partition("###")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    if not lines:
        return {}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns = [column_of(cell) for cell in rows[0][1:]]
    return {(*column, LABELS[row[0].replace("\\", "")]): outcome_of(cell) for row in rows[2:]
            for column, cell in zip(columns, row[1:], strict=True) if cell}  # fmt: skip


def in_terminal(text: str) -> dict:
    section = text.partition("Against the controls")[2].splitlines()[1:]
    lines, heading = [], ""
    for line in section:
        if ", against " in line and not line.startswith(" "):
            heading = line
        elif line.startswith("  "):
            lines.append((heading, line))
    return listed(lines)


def in_csv(folder) -> dict:
    table = pd.read_csv(folder / "verdict.csv")
    return {tuple(row[:4]): row[4] for row in table.itertuples(index=False, name=None)}


def exact(differences: np.ndarray) -> tuple[float, float]:
    """Wilcoxon's p by scipy, all sign patterns where they are few, and how far the ranks lean."""
    rest = differences[differences != 0]
    if np.isnan(differences).any() or not len(rest):
        return (np.nan if np.isnan(differences).any() else 1.0), 0.0
    ranks = stats.rankdata(abs(rest)) * np.sign(rest)
    if len(rest) > 50:
        return stats.wilcoxon(rest, method="asymptotic").pvalue, ranks.sum()
    if len(rest) <= 12:
        signs = np.array(np.meshgrid(*[[-1, 1]] * len(rest))).reshape(len(rest), -1)
        sums = abs(ranks) @ signs
        return min(1.0, 2 * min((sums >= ranks.sum()).mean(), (sums <= ranks.sum()).mean())), ranks.sum()
    if len(set(abs(rest))) == len(rest):
        return stats.wilcoxon(rest, method="exact").pvalue, ranks.sum()
    return np.nan, np.nan  # tied, and too many to list


def holm(p: dict) -> dict:
    """Holm's p by his definition: the step at which a hypothesis is rejected, none before one that is not."""
    ordered = sorted(p, key=p.get)
    steps = [(len(p) - place) * p[key] for place, key in enumerate(ordered)]
    return {key: min(1, max(steps[: place + 1])) for place, key in enumerate(ordered)}


def expected(images: pd.DataFrame) -> dict:
    """The verdicts again, the slow way; places whose p this way does not know are missing."""
    found = {}
    for (sign, perturbation), part in images[images["k"] != "0"].groupby(["sign", "perturbation"]):
        for control in set(part["method"]) & set(CONTROLS):
            family = {}
            for method in set(part["method"]) - set(CONTROLS):
                mine, theirs = (part[part["method"] == name].set_index(["image", "k"]) for name in (method, control))
                ks = sorted({*mine.index.unique("k")} & {*theirs.index.unique("k")})
                ks = [k for k in ks if k != "all"] or ks
                shared = sorted({*mine.index.unique("image")} & {*theirs.index.unique("image")})
                if not ks or not shared:
                    continue
                for value in ("correct", "logit"):
                    means = [np.array([np.mean([float(there[image, k]) for k in ks]) for image in shared])
                             for there in (mine[value].to_dict(), theirs[value].to_dict())]  # fmt: skip
                    gains = np.round((-1 if sign == "positive" else 1) * (means[0] - means[1]), 9)
                    family[method, value] = (*exact(gains), gains.mean())
            known = {key: p for key, (p, lean, _) in family.items() if not np.isnan(p)}
            if any(np.isnan(lean) for _, lean, _ in family.values()):
                continue
            corrected = holm(known)
            for method in {method for method, _ in family}:
                ways = set()
                for value in ("correct", "logit"):
                    if corrected.get((method, value), 1) < 0.05:
                        ways |= set(np.sign(family[method, value][1:]))
                word = "better" if ways == {1} else "worse" if ways == {-1} else "mixed"
                found[sign, perturbation, control, method] = word if ways else "no difference shown"
    return found


QUICK = (9, 10, 12, 14, 17, 19, 28, 41)  # every outcome, no control, a control alone, one image, ties, NaN
SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40) if seed not in QUICK)]


@pytest.fixture(scope="module", params=SEEDS)
def case(request, tmp_path_factory):
    images, about = generated(request.param)
    folder = tmp_path_factory.mktemp("run")
    shown = About(paper=Paper(request.param % 3 > 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "figure_files", lambda *_: {})  # slow, and they state nothing
        text = write_report(folder, images, None, ["a_model: made up."], about=shown)
    page = (folder / "report.html").read_text("utf-8").partition("<script type")[0]
    return images, about, folder, text, page


def test_every_place_says_the_same_and_it_follows_from_the_numbers(case):
    images, about, folder, text, page = case
    said = in_csv(folder)
    assert in_cards(page) == said
    assert in_page_table(page) == said
    assert in_markdown((folder / "table1.md").read_text("utf-8")) == said
    assert in_terminal(text) == said
    wanted = expected(images)
    assert wanted.items() <= said.items(), about
    assert not {place[3] for place in said} & set(CONTROLS)
    assert set(said.values()) <= OUTCOMES
    if not said:
        whys = re.findall(r"[^.\n<>]*: no verdict\.", page)
        assert len(whys) == 1
        assert whys[0] in text
        assert whys[0] in (folder / "table1.md").read_text("utf-8")
        assert ("No control" in whys[0]) == (not set(CONTROLS) & set(images["method"]))
        assert ("Only " in whys[0]) == (set(images["method"]) <= set(CONTROLS))


def test_a_caution_is_there_where_nothing_could_be_shown_and_nowhere_else(case):
    _, _, folder, text, page = case
    table = pd.read_csv(folder / "verdict.csv")
    undecided = table[table["verdict"] == "no difference shown"]
    few = len(undecided) and undecided["n"].min() < 100
    for where in (text, page, (folder / "table1.md").read_text("utf-8")):
        assert (" few: " in where) == bool(few)
        if "too few to show any difference" in where:
            assert set(table["verdict"]) == {"no difference shown"}


def test_the_paper_stands_in_all_places_or_in_none(case):
    _, _, folder, text, page = case
    cells = folder / "paper.csv"
    printed = cells.exists() and len(pd.read_csv(cells)) > 0
    table = (folder / "table1.md").read_text("utf-8")
    for where in (text, table, (folder / "table1.tex").read_text("utf-8")):
        assert ("paper (VGG-16)" in where) == printed
    assert ("### Beside the paper" in table) == ('<section id="paper">' in page) == printed
    assert ("paper yes" in page or "paper no" in page or 'class="paper' in page) == printed
    counted = re.search(r"in our 95 % interval in (\d+) of (\d+) cells\..* agrees in (\d+)", table)
    assert bool(counted) == (printed and "No cell above K = 0" not in table)
    if counted:
        rows = pd.read_csv(cells, dtype={"k": str}, keep_default_na=False)
        rows = rows[rows["k"] != "0"]
        inside, known, agrees = ((rows[name].isin(answers)).sum() for name, answers in (
            ("inside", ["yes"]), ("inside", ["yes", "no"]), ("agrees", ["yes"])))  # fmt: skip
        assert [int(number) for number in counted.groups()] == [inside, known, agrees]


def test_the_generated_results_hold_every_outcome_and_oddity():
    seen, sizes, kinds, empty = set(), set(), set(), set()
    for seed in QUICK:
        images, about = generated(seed)
        outcomes = set(expected(images).values())
        seen |= outcomes
        sizes.add(about["n"])
        kinds.add(str(about["kind"]))
        empty.add((bool(set(images["method"]) & set(CONTROLS)), bool(set(images["method"]) - set(CONTROLS))))
    assert seen == OUTCOMES
    assert {1, 12, 30} <= sizes
    assert {"tied", "nan", "constant", "contrary"} <= kinds
    assert {(True, True), (False, True), (True, False)} <= empty
