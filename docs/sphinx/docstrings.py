"""The package's docstrings are plain text with `code`; Sphinx wants reStructuredText.

So before napoleon sorts their sections: `code` becomes literal, and signs that mean something to
reStructuredText alone, as in |w| or a * b, are escaped.
"""

import re
from typing import Any

_CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
_FORMULA = re.compile(r"^ {4,}\S")


def escape(text: str) -> str:
    r"""One line of prose as reStructuredText.

    >>> print(escape("|w| of `Leaf`s, a * b_"))
    \|w\| of ``Leaf``\ s, a \* b\_
    """
    parts = _CODE.split(text)
    for i, part in enumerate(parts):
        if i % 2:
            end = "\\ " if parts[i + 1][:1].isalnum() else ""
            parts[i] = f"``{part.strip('`')}``{end}"
        else:
            parts[i] = re.sub(r"([|*\\]|_(?!\w))", r"\\\1", part)
    return "".join(parts)


def rewrite(lines: list[str]) -> None:
    """Escape a docstring in place; doctests stay as they are, indented formulas become blocks."""
    result: list[str] = []
    in_doctest, in_block, in_section = False, False, False
    for line in lines:
        stripped = line.strip()
        in_doctest = bool(stripped) and (in_doctest or stripped.startswith(">>>"))
        if stripped and not line.startswith(" "):
            in_section = bool(re.fullmatch(r"(Args|Returns|Raises|Yields|Source):.*", stripped))
            if in_block:
                result.append("")
            in_block = False
        formula = not in_section and bool(_FORMULA.match(line))
        if formula and not in_block and not in_doctest:
            result += ["::", ""]
            in_block = True
        result.append(line if in_doctest or in_block or not stripped else escape(line))
    lines[:] = result


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    rewrite(lines)


def setup(app: Any) -> dict[str, bool]:
    """Run before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
