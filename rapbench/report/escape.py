"""Names as text: what a method, a class or a file is called changes no table, document or figure that it is in.

Each kind of output has its one function here; CSV has its own module, rapbench.core.spreadsheet.
"""

import re
import unicodedata

LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        "α": r"$\alpha$",  # noqa: RUF001
        "β": r"$\beta$",
        "ε": r"$\epsilon$",
        "†": r"$^\dagger$",
        "±": r"$\pm$",
        "–": "--",  # noqa: RUF001
        "×": r"$\times$",  # noqa: RUF001
    }
)
MARKDOWN = re.compile(
    r"[\\`*|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is none of Markdown's
    r"|\](?=[(\[:])"  # a link or its definition
    r"|<(?=[A-Za-z/!?])"  # a tag
    r"|&(?=#?\w+;)"  # a character's name
    r"|^(?:[#>+=-]+|\d+[.)])(?=\s|$)"  # a heading, a list
)
ENTITIES = {"<": "&lt;", "&": "&amp;"}  # for which not every reader of Markdown knows a backslash
HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")  # Unicode's categories of what is not shown, ends a line, or turns it round


def visible(text: str) -> str:
    """Return a text in one line, in which characters that would not be seen stand as they are written in Python."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in HIDDEN else character
        for character in text
    )


def markdown(text: str) -> str:
    """Return a text as Markdown, inside a table or a paragraph."""
    return MARKDOWN.sub(lambda match: "".join(ENTITIES.get(c, f"\\{c}") for c in match[0]), visible(text))


def latex(text: str) -> str:
    """Return a text as LaTeX, also at the beginning of a table's row, where `[` and `*` would be a command's option."""
    escaped = visible(text).translate(LATEX)
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def figure(text: str) -> str:
    """Return a text as matplotlib takes it, without mathematics."""
    return visible(text).replace("$", r"\$")
