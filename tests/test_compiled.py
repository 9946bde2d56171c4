from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

import pytest

from relay import IS_COMPILED, compiled
from tests.conftest import REACH_INSIDE

ROOT = Path(__file__).parents[1]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    package = tmp_path / "relay"
    (package / "smtp").mkdir(parents=True)
    (package / "mail.py").write_text("A = 1\n")
    (package / "presets.toml").write_text("a = 1\n")
    (package / "smtp" / "__init__.py").write_text("")
    return package


@pytest.fixture
def build(sources: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A build of these sources, as far as is looked at."""
    builds = sources.parent / "builds"
    folder = builds / compiled.digest(str(sources))
    folder.mkdir(parents=True)
    monkeypatch.setattr(compiled, "BUILDS", str(builds))
    monkeypatch.delenv("RELAY_COMPILED", raising=False)
    return str(folder)


def test_a_build_of_exactly_these_sources_is_used(sources: Path, build: str) -> None:
    assert compiled.build_of(str(sources)) == build


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("change", ["edited", "added", "removed", "renamed", "data"])
def test_a_build_of_other_sources_is_not(sources: Path, change: str) -> None:
    match change:
        case "edited":
            (sources / "mail.py").write_text("A = 2\n")
        case "added":
            (sources / "smtp" / "more.py").write_text("")
        case "removed":
            (sources / "smtp" / "__init__.py").unlink()
        case "renamed":
            (sources / "mail.py").rename(sources / "post.py")
        case _:
            (sources / "presets.toml").write_text("a = 2\n")
    assert compiled.build_of(str(sources)) is None


def test_what_python_keeps_beside_the_sources_changes_nothing(sources: Path, build: str) -> None:
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__" / "mail.pyc").touch()
    assert compiled.build_of(str(sources)) == build


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("no", ["no", "off", "0", "False"])
def test_it_can_be_declined(sources: Path, no: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_COMPILED", no)
    assert compiled.build_of(str(sources)) is None


def test_without_any_build_nothing_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "BUILDS", str(tmp_path / "none"))
    monkeypatch.delenv("RELAY_COMPILED", raising=False)
    assert compiled.build_of(str(tmp_path / "nor these sources")) is None


@pytest.mark.skipif(not IS_COMPILED, reason="there is nothing compiled here")
def test_what_is_said_to_be_compiled_is(compiling: ModuleType) -> None:
    for name in compiling.MODULES:
        assert str(importlib.import_module(f"relay.{name}").__file__).endswith(".so"), name


# -- how a source is spelled for the compiler ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def compiling() -> ModuleType:
    pytest.importorskip("mypyc")
    spec = importlib.util.spec_from_file_location("compiling", ROOT / "scripts" / "compiling.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_COMPILED", "no")  # it sets this
        patch.setattr(sys, "path", list(sys.path))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


VALUE = '''from __future__ import annotations

from typing import Generic, TypeVar

from relay.value import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A value."""

    key: T
    _signed: tuple[int, ...] = ()

    def twice(self) -> Done[T]:
        return Done(self.key, self._signed * 2)


@dataclass(slots=True, eq=False)
class Open:
    count: int = 0
'''


def test_values_are_the_same_values(compiling: ModuleType) -> None:
    spelled = compiling.spelled(VALUE, {"Done"})
    assert "Generic[" not in spelled
    assert "Done[" not in spelled
    assert "slots" not in spelled
    names: dict[str, object] = {"__name__": "spelled"}
    sys.modules["spelled"] = ModuleType("spelled")
    try:
        exec(compile(spelled, "spelled", "exec"), names)
    finally:
        del sys.modules["spelled"]
    done, opened = names["Done"], names["Open"]
    assert callable(done)
    assert callable(opened)
    assert done(1, (2,)).twice() == done(1, (2, 2))
    assert hash(done(1)) == hash(done(1, ()))
    assert repr(done(key="a")) == "Done(key='a', _signed_=())"
    assert opened().count == 0
    assert opened() != opened()


def test_each_module_to_be_compiled_is_there(compiling: ModuleType) -> None:
    for name in compiling.MODULES:
        path = ROOT / "relay" / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name


def test_what_is_left_out_while_compiled_is_there() -> None:
    for path, names in REACH_INSIDE.items():
        functions = {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, FUNCTIONS)
        }
        assert functions.issuperset(names), path


# -- what could make the compiled program another one ----------------------------------------------------------------
def paths(compiling: ModuleType) -> dict[str, Path]:
    found = {}
    for name in compiling.MODULES:
        path = ROOT / "relay" / name.replace(".", "/")
        found[f"relay.{name}"] = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found


@pytest.mark.timeout(300)
def test_nothing_is_taken_for_granted_behind_a_call(compiling: ModuleType) -> None:
    """Else: look once, into a local variable."""
    narrowing = pytest.importorskip("tests.narrowing")
    assert list(narrowing.assumptions(paths(compiling), ROOT / "relay")) == []


GRANTED = """
class Reception:
    def __init__(self) -> None:
        self.refusal: str | None = None
        self.never_set: str | None = None
        self.closed = False

    async def stamp(self) -> None:
        self.refusal = "no"
        self.closed = True

    async def tests_again(self) -> str | None:
        if self.refusal is not None:
            return None
        await self.stamp()
        return self.refusal

    async def is_closed(self) -> bool:
        if self.closed:
            return True
        await self.stamp()
        return bool(self.closed)

    async def looks_once(self) -> str | None:
        refusal = self.refusal
        await self.stamp()
        return refusal if self.never_set is None else self.never_set
"""


def test_what_is_taken_for_granted_is_found(tmp_path: Path) -> None:
    narrowing = pytest.importorskip("tests.narrowing")
    package = tmp_path / "door"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "intake.py").write_text(GRANTED)
    found = list(narrowing.assumptions({"door.intake": package / "intake.py"}, package))
    assert [(each.function, each.attribute, each.assumed) for each in found] == [
        ("door.intake.tests_again", "self.refusal", "None"),
        ("door.intake.is_closed", "self.closed", "Literal[False]"),
    ]


def test_no_function_catches_errors_of_several_kinds_by_one_name(compiling: ModuleType) -> None:
    """Compiled, a coroutine gives the name the first one's type, and catching the other is a TypeError."""
    for path in paths(compiling).values():
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, FUNCTIONS):
                caught = {(n.name, ast.unparse(n.type)) for n in ast.walk(function) if is_named(n) and n.type}
                assert len({name for name, _ in caught}) == len(caught), f"{path.name}:{function.name}"


def is_named(node: ast.AST) -> TypeGuard[ast.ExceptHandler]:
    return isinstance(node, ast.ExceptHandler) and node.name is not None


def test_no_class_of_python_is_derived_from_a_compiled_one(compiling: ModuleType) -> None:
    """It fails when an object is made, not before. Exceptions are classes of Python in any case."""
    compiled_paths = paths(compiling)
    classes = {
        (module, node.name)
        for module, path in compiled_paths.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        and not any(ast.unparse(base).endswith(("Exception", "Error")) for base in node.bases)
    }
    for path in (ROOT / "relay").rglob("*.py"):
        if path not in compiled_paths.values():
            tree = ast.parse(path.read_text())
            known = {
                alias.asname or alias.name: (node.module, alias.name)
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            bases = {
                ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases
            }
            assert not {base for base in bases if known.get(base) in classes}, path
