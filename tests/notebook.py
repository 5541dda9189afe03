"""``python -m tests.notebook FILE``: run a notebook's code cells in their order, and show what each ends with."""

import ast
import json
import sys
from pathlib import Path


def run(file):
    """The names that its cells leave.

    Raises:
        Exception: a cell does.
    """
    names = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(Path(file).read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        place = f"{file}, cell {number}"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, place, "exec"), names)
        if last is not None:
            show(eval(compile(ast.Expression(last.value), place, "eval"), names))
    return names


def show(value):
    """A value as a notebook shows it: its picture or page where it has one, else its text."""
    if value is None:
        return
    for method in ("_repr_png_", "_repr_html_", "__repr__"):
        if hasattr(value, method) and (shown := getattr(value, method)()) is not None:
            print(shown if isinstance(shown, str) else f"{len(shown)} bytes")
            return


if __name__ == "__main__":
    run(sys.argv[1])
