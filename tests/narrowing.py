"""Where compiled code could be another program than Python's: attributes held to be what they were before a call.

mypy keeps what a test has told of ``self.x`` while a method is called or something is awaited, and mypyc makes code of
that: a test that mypy holds to be decided is left out, a value is cast to what it is no longer. Python looks again. So
this finds each read of an attribute that, behind a call, is held to be narrower than declared. An attribute that is
never set but in ``__init__`` can't change; one that is only the receiver of what follows fails in Python too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mypy import build, nodes
from mypy.modulefinder import BuildSource
from mypy.options import Options
from mypy.types import Instance, Type, get_proper_type

_Types = Mapping[tuple[int, int, int | None, int | None], Type]
_LOOKS = frozenset({"isinstance", "len", "callable", "id", "type"})
"""Calls that change nothing."""


class Assumed(NamedTuple):
    """One such read."""

    function: str
    attribute: str
    declared: str
    assumed: str


def assumptions(modules: Mapping[str, Path], package: Path) -> Iterator[Assumed]:
    """What is taken for granted in ``modules``, by name, of the sources in the folder ``package``."""
    options = Options()
    options.export_types = options.preserve_asts = True
    options.incremental = False
    options.follow_imports = "silent"
    options.ignore_missing_imports = True
    options.python_version = sys.version_info[:2]
    options.mypy_path = [str(package.parent)]
    result = build.build([BuildSource(str(path), name, None) for name, path in modules.items()], options)
    if result.errors:
        raise ValueError("\n".join(result.errors))
    settled = _never_set(package)
    for name, path in modules.items():
        tree = result.graph[name].tree
        assert tree is not None
        types = {
            (node.line, node.column, node.end_line, node.end_column): result.types[node]
            for node in _expressions(tree)
            if node in result.types
        }
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _in_function(f"{name}.{function.name}", function, types, settled)


def _in_function(where: str, function: ast.AST, types: _Types, settled: frozenset[str]) -> Iterator[Assumed]:
    inside = list(ast.walk(function))
    calls = [_end(node) for node in inside if isinstance(node, ast.Await) or _may_change(node)]
    fails_anyway = {id(node.value) for node in inside if isinstance(node, ast.Attribute)}
    fails_anyway |= {id(node.func) for node in inside if isinstance(node, ast.Call)}
    first: dict[str, tuple[int, int]] = {}
    reads = [node for node in inside if isinstance(node, ast.Attribute)]
    for read in sorted(reads, key=lambda each: (each.lineno, each.col_offset)):
        path = ast.unparse(read)
        since = first.setdefault(path, _end(read))
        if isinstance(read.ctx, ast.Store) or id(read) in fails_anyway or set(path.split(".")[1:]) <= settled:
            continue
        if any(since < call <= (read.lineno, read.col_offset) for call in calls):
            declared, held = _declared(read, types), types.get(_place(read))
            if declared is not None and held is not None and _plain(declared) != _plain(held):
                yield Assumed(where, path, _plain(declared), _plain(held))


def _may_change(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _LOOKS)


def _declared(read: ast.Attribute, types: _Types) -> Type | None:
    of = types.get(_place(read.value))
    base = None if of is None else get_proper_type(of)
    symbol = base.type.get(read.attr) if isinstance(base, Instance) else None
    match symbol and symbol.node:
        case nodes.Var(type=declared):
            return declared
        case nodes.Decorator(var=var):
            return getattr(get_proper_type(var.type), "ret_type", var.type)
        case _:
            return None


def _plain(kind: Type) -> str:
    return str(get_proper_type(kind)).replace("?", "")


def _place(node: ast.expr) -> tuple[int, int, int | None, int | None]:
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _end(node: ast.AST) -> tuple[int, int]:
    assert isinstance(node, ast.expr)
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _never_set(package: Path) -> frozenset[str]:
    """Names of attributes that nothing sets outside of an ``__init__`` (a property may always tell something else)."""
    named: set[str] = set()
    changed: set[str] = set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        made = {id(each) for f in ast.walk(tree) if _is(f, "__init__") for each in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                named.add(node.attr)
                if isinstance(node.ctx, ast.Store | ast.Del) and id(node) not in made:
                    changed.add(node.attr)
            elif isinstance(node, ast.FunctionDef) and node.decorator_list:
                changed.add(node.name)
    return frozenset(named - changed)


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def _expressions(tree: nodes.MypyFile) -> Iterator[nodes.Expression]:
    """All expressions of a module. mypy's own visitors are compiled, and can't be derived from."""
    seen: set[int] = set()
    left: list[object] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, list | tuple):
            left.extend(node)
        elif isinstance(node, nodes.Node) and id(node) not in seen and (node is tree or not _is_elsewhere(node)):
            seen.add(id(node))
            if isinstance(node, nodes.Expression):
                yield node
            kind = type(node)
            left.extend(
                getattr(node, name, None)
                for name in dir(kind)
                if type(getattr(kind, name)).__name__ == "getset_descriptor" and name not in {"node", "info", "type"}
            )


def _is_elsewhere(node: nodes.Node) -> bool:
    return isinstance(node, nodes.MypyFile | nodes.TypeInfo)
