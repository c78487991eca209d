"""Sizes of modules and functions, as the project's limits count them.

A line of code is a line that is neither blank nor a comment alone nor part of a docstring of a module, a class, a
function or an attribute (PEP 257). The length of a module is that of its file; the length of a function is from its
`def` to its last line, without its docstring. The core is the package without what stands around it (`AROUND`).
"""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
AROUND = ("host", "services", "ext", "cli", "demo", "testing", "embedded")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


@dataclass(frozen=True)
class Module:
    """One Python file of the project."""

    path: Path
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """Its path in the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def lines(self) -> int:
        """The length of the file."""
        return self.text.count("\n")

    @property
    def code(self) -> int:
        """The lines of code."""
        tree = self.tree
        left_out = {
            line for node in ast.walk(tree) for line in _docstring_lines(node) or _attribute_docstring_lines(node)
        }
        lines = enumerate(self.text.splitlines(), 1)
        return sum(bool(it := line.strip()) and it[0] != "#" and number not in left_out for number, line in lines)

    @property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    def functions(self) -> Iterator[tuple[str, int]]:
        """The functions with their lengths, named as `module.py:function`."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                length = (node.end_lineno or 0) - node.lineno + 1 - len(_docstring_lines(node))
                yield f"{self.name}:{node.name}", length

    @property
    def is_core(self) -> bool:
        """Whether it counts as the core."""
        parts = self.path.relative_to(ROOT).parts
        return parts[0] == "wfe_postgres" and parts[1] not in AROUND


def modules(*folders: str) -> list[Module]:
    """The files that git tracks, or would track, in these folders."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *(f"{it}/*.py" for it in folders)]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [Module(ROOT / name, (ROOT / name).read_text()) for name in names if (ROOT / name).exists()]


def _docstring_lines(node: ast.AST) -> range:
    if not isinstance(node, Documented) or ast.get_docstring(node, clean=False) is None:
        return range(0)
    first = node.body[0]
    return range(first.lineno, (first.end_lineno or 0) + 1)


def _attribute_docstring_lines(node: ast.AST) -> range:
    """A string that is a statement of its own documents what stands above it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return range(node.lineno, (node.end_lineno or 0) + 1)
    return range(0)
