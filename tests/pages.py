"""The documentation taken apart: every page, its fenced blocks, and the commands in its text."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text()
         for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}  # fmt: skip
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)
IN_TEXT = re.compile(r"`((?:eval|make|pip|python|(?:\.venv/bin/)?rapbench) [^`]+)`")
FILE = re.compile(r"# (\S+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block. file: what its first line, a comment, says it is to be saved as."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        return found[1] if (found := FILE.match(self.text)) else None

    @property
    def content(self) -> str:
        return FILE.sub("", self.text, count=1)

    @property
    def commands(self) -> list[str]:
        return self.text.replace("\\\n", " ").splitlines() if not self.language else []


def blocks(page: str) -> list[Block]:
    return [Block(language, text) for _, language, text in FENCE.findall(PAGES[page])]


def commands(page: str) -> list[str]:
    """Return every command of a page: those in blocks, and those in its sentences and tables."""
    fenced = [command for block in blocks(page) for command in block.commands]
    return fenced + [found.removesuffix(" ...") for found in IN_TEXT.findall(FENCE.sub("", PAGES[page]))]


def section(page: str, name: str) -> str:
    """Return what a page says of `name`: the section whose heading has it, or its row in a table."""
    text = FENCE.sub("", PAGES[page])
    for found in re.finditer(r"^(#+) (.*)$", text, re.M):
        if f"`{name}`" in found[2]:
            rest = text[found.end() :]
            end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.M)
            return rest[: end.start()] if end else rest
    rows = re.findall(rf"^\| `{re.escape(name)}` \|.*$", text, re.M)
    return rows[0] if rows else ""
