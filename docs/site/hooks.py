"""What the site's pages need beyond Markdown; mkdocs calls `on_page_content`."""

import html
import re

from latex2mathml.converter import convert

# As pymdownx.arithmatex marks formulas: \(inline\) in a span, \[displayed\] in a div.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)


def on_page_content(content: str, **_: object) -> str:
    """Return a page's HTML with MathML for its formulas: browsers lay it out without a script or a font to fetch.

    The `::` before an example in a docstring is a plain colon to a reader.
    """
    return FORMULA.sub(_mathml, content.replace("::</p>", ":</p>"))


def _mathml(formula: re.Match[str]) -> str:
    return convert(html.unescape(formula[2]).strip(), display="block" if formula[1] == "div" else "inline")
