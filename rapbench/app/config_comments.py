"""The comments of the shipped configuration files: what a setting means is written above it, and nowhere else."""

import re

KEY = re.compile(r"""( *)['"]?([\w/]+)['"]?:""")


def comments_of(text: str) -> dict[str, str]:
    """Return what the comment lines right above each key of a YAML file say, joined to one line, by the dotted key.

    A comment above keys that follow one another without another comment is of the first of them. The comments at the
    head of the file, above an empty line or a list of defaults, are the file's own.
    """
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            said.append(line.lstrip(" #"))
        elif match := KEY.match(line):
            depth = len(match[1])
            parents = [parent for parent in parents if parent[0] < depth] + [(depth, match[2])]
            if said:
                found[".".join(name for _, name in parents)] = " ".join(said)
            said = []
        else:
            said = []
    return found
