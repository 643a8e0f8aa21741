"""What the site's pages need beyond Markdown: mkdocs calls the functions `on_*`."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

BIBLIOGRAPHY = Path(__file__).parents[1] / "references.bib"
PAGE = "references.html"
MARK = "<!-- references -->"

# As pymdownx.arithmatex marks formulas: \(inline\) in a span, \[displayed\] in a div.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
# A citation: author, year and a word, such as [nam2019rap].
CITATION = re.compile(r"\[([a-z]+(?:19|20)\d\d[a-z]+)\]")
CODE = re.compile(r"(<(?:pre|code)\b.*?</(?:pre|code)>)", re.S)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's Markdown, with the list of references in the place of its mark."""
    return markdown.replace(MARK, "\n".join(_listed(key, entry) for key, entry in references().items()))


def on_page_content(content: str, page: Any, **_: object) -> str:
    """Return a page's HTML with MathML for its formulas and links for its citations.

    Browsers lay MathML out without a script or a font to fetch. The `::` before an example in a docstring is a plain
    colon to a reader.
    """
    content = FORMULA.sub(_mathml, content.replace("::</p>", ":</p>"))
    if page.url == PAGE:
        return content
    target = "../" * page.url.count("/") + PAGE
    link = rf'<a href="{target}#\1">[\1]</a>'
    return "".join(part if CODE.match(part) else CITATION.sub(link, part) for part in CODE.split(content))


def references() -> dict[str, dict[str, str]]:
    """Return the fields of each entry of the bibliography, by key. A field is one line of the file."""
    entries = re.findall(r"^@\w+\{(\S+),\n(.*?)^\}", BIBLIOGRAPHY.read_text(encoding="utf-8"), re.M | re.S)
    return {key: dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.M)) for key, body in entries}


def _listed(key: str, entry: dict[str, str]) -> str:
    """Return one entry as a line of Markdown, with an anchor."""
    authors = [" ".join(reversed(name.split(", "))) for name in entry["author"].split(" and ")]
    where = ", ".join(entry[field] for field in ("journal", "booktitle", "volume") if field in entry)
    link = f"https://arxiv.org/abs/{entry['eprint']}" if "eprint" in entry else entry.get("url", "")
    name = f"arXiv {entry['eprint']}" if "eprint" in entry else link
    shown = f"[{name}]({link})" if link else ""
    said = ", ".join(part for part in (where, entry["year"], shown, entry.get("note", "")) if part)
    return f'- <span id="{key}"></span>**[{key}]** {", ".join(authors)}: *{entry["title"]}*. {said}.'


def _mathml(formula: re.Match[str]) -> str:
    return convert(html.unescape(formula[2]).strip(), display="block" if formula[1] == "div" else "inline")
