"""Compiles the modules that every message passes through with mypyc; called by scripts/compile.

The sources stay as they are. A copy of them is compiled, in which three things are spelled as the compiler wants them:

* a value (``@dataclass``) gets its ``__init__`` written out, so that it is made without the interpreter; what
  ``relay.value`` promises about ``frozen`` holds here too, and slots are the compiler's own;
* generic classes are plain ones: types were checked before, in the sources;
* private names that behind the compiler's prefix would be words of C get a letter more.

No line changes its place, so that a traceback's numbers are those of the sources. The result, with all other modules as
they are, goes where relay/compiled.py looks, in one step.
"""

from __future__ import annotations

import ast
import compileall
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["RELAY_COMPILED"] = "no"

from mypyc.build import mypycify  # noqa: E402
from setuptools import setup  # noqa: E402

from relay.compiled import BUILDS, digest  # noqa: E402

MODULES = """
mail outcome events rewrite
smtp.address smtp.arguments smtp.bdat smtp.client smtp.datareader smtp.lineends smtp.longlines smtp.replies smtp.steps
smtp.stuffing
headers.controls headers.imprint headers.scanning headers.stamping headers.trace
listener.inbox listener.intake
spool spool.sqlite
delivery.backoff delivery.begun delivery.dispatch delivery.engine delivery.fairness delivery.flightrecorder
delivery.items delivery.lane delivery.pacing delivery.permits delivery.pool delivery.quota.ledger delivery.quota.window
delivery.ready delivery.routing delivery.schedule delivery.settle delivery.supply delivery.suspects delivery.turns
delivery.yielding
upstream upstream.conversation upstream.smtp
""".split()  # noqa: SIM905 - to be read as a list of names
"""Without aiosmtpd's subclass in the listener: it calls decorators that write to the functions they are given."""
KEPT = 3
"""Builds that are kept: a relay that runs may still read its own."""
_OF_C = re.compile(r"\b(_(?:signed|thread|const|inline|volatile|asm|restrict|typeof|real|imag|label|alignof))\b")


def spelled(source: str, generics: set[str]) -> str:
    """``source`` as the compiler wants it."""
    for name in generics:
        source = re.sub(rf"\b{name}\[[^\[\]\n]*\]", name, source)
    lines = source.split("\n")
    tree = ast.parse(source)
    promised = any(isinstance(node, ast.ImportFrom) and node.module == "relay.value" for node in tree.body)
    typed = (
        {
            node.targets[0].id
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "TypeVar"
            and isinstance(node.targets[0], ast.Name)
        }
        if generics_of(tree)
        else set()
    )
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in typed:
            lines[node.lineno - 1 : node.end_lineno] = [f"{node.targets[0].id} = Any"]
        elif isinstance(node, ast.ClassDef):
            _respell(node, lines, promised=promised)
        elif isinstance(node, ast.ImportFrom) and node.module == "relay.value":
            lines[node.lineno - 1 : node.end_lineno] = ["from dataclasses import dataclass"]
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__" and typed:
            lines[node.lineno - 1] += "; from typing import Any"
    result = _OF_C.sub(r"\1_", "\n".join(lines))
    if result.count("\n") != source.count("\n"):
        raise ValueError("lines have changed their places")
    return result


def generics_of(tree: ast.Module) -> set[str]:
    """Names of the generic classes of a module."""
    return {
        node.name for node in tree.body if isinstance(node, ast.ClassDef) and any(_is_generic(b) for b in node.bases)
    }


def _is_generic(base: ast.expr) -> bool:
    return isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name) and base.value.id == "Generic"


def _respell(node: ast.ClassDef, lines: list[str], *, promised: bool) -> None:
    """Write one class out in ``lines``, from its end to its beginning: what stands before keeps its place."""
    decorator = next(
        (
            d
            for d in node.decorator_list
            if isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "dataclass"
        ),
        None,
    )
    options = [] if decorator is None else [ast.unparse(k) for k in decorator.keywords if k.arg != "slots"]
    if promised and "frozen=True" in options:
        options.remove("frozen=True")
        options.append("unsafe_hash=True")
    if decorator is not None and "frozen=True" not in options:
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
        written = any(isinstance(f, ast.FunctionDef) and f.name in {"__init__", "__post_init__"} for f in node.body)
        if fields and not written and not any(isinstance(f.value, ast.Call) for f in fields):
            options.append("init=False")
            _put_in(node, fields, lines)
    if any(_is_generic(base) for base in node.bases):
        kept = ", ".join(ast.unparse(base) for base in node.bases if not _is_generic(base))
        lines[node.lineno - 1] = f"class {node.name}({kept}):" if kept else f"class {node.name}:"
    if decorator is not None:
        lines[decorator.lineno - 1] = f"@dataclass({', '.join(options)})"


def _put_in(node: ast.ClassDef, fields: list[ast.AnnAssign], lines: list[str]) -> None:
    """Write a value's ``__init__`` on the empty line behind its last field and what is said of that."""
    after = node.body[node.body.index(fields[-1]) + 1 :]
    said = bool(after) and isinstance(after[0], ast.Expr)
    last = after[0].end_lineno if said else fields[-1].end_lineno
    assert last is not None
    if last < len(lines) and lines[last]:
        raise ValueError(f"no empty line behind the fields of {node.name}")
    parameters = [
        f"{ast.unparse(f.target)}: {ast.unparse(f.annotation)}"
        + ("" if f.value is None else f" = {ast.unparse(f.value)}")
        for f in fields
    ]
    names = [ast.unparse(f.target) for f in fields]
    sets = "; ".join(f"self.{name} = {name}" for name in names)
    lines[last : last + 1] = [f"    def __init__(self, {', '.join(parameters)}) -> None: {sets}"]


def copied() -> tuple[str, list[str]]:
    """Copy the package, whole and to be compiled, to the current folder; its digest, and the files to compile."""
    shutil.copytree(ROOT / "relay", "whole/relay", ignore=shutil.ignore_patterns("__pycache__"))
    named = digest("whole/relay")
    shutil.copytree("whole/relay", "relay")
    files = [Path("relay", *name.split(".")) for name in MODULES]
    files = [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in files]
    sources = {path: path.read_text() for path in files}
    generics = {name for source in sources.values() for name in generics_of(ast.parse(source))}
    for path, source in sources.items():
        path.write_text(spelled(source, generics))
    return named, [str(path) for path in files]


def build() -> str:
    """Compile in the current folder, into "whole"; the digest of what was compiled. Raises SystemExit."""
    Path("mypy.ini").write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n")
    named, files = copied()
    extensions = mypycify(
        ["--config-file", "mypy.ini", *files],
        opt_level="1",
        debug_level="0",
        multi_file=True,
        group_name="relay_compiled",
    )
    jobs = str(os.cpu_count() or 1)
    script = ["--quiet", "build_ext", "--build-lib", "whole", "--parallel", jobs]
    setup(name="relay-compiled", packages=[], ext_modules=extensions, script_args=script)
    missing = [file for file in files if not Path("whole", file).with_suffix(EXTENSION_SUFFIXES[0]).is_file()]
    if missing:
        raise SystemExit(f"not compiled: {missing}")
    proven("whole")
    compileall.compile_dir("whole/relay", quiet=2)
    return named


def proven(folder: str) -> None:
    """Import each compiled module of the build in ``folder``, in a process of its own. Raises SystemExit."""
    names = [f"relay.{name}" for name in MODULES]
    program = (
        "import importlib, sys; import relay; folder = sys.argv[1]; sys.path.append(folder);"
        " relay.__path__[:] = [folder + '/relay'];"
        " [importlib.import_module(name) for name in sys.argv[2:]]; import relay.cli, relay.daemon"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(folder).resolve()), *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode != 0:
        raise SystemExit(f"what was compiled can't be imported: {done.stderr}")


def main() -> int:
    """Build, unless the build of these sources is there; 0, or 1 with the reason on stderr."""
    made_by = sha256(Path(__file__).read_bytes()).hexdigest()
    stamp = Path(BUILDS, digest(str(ROOT / "relay")), "made-by")
    if stamp.is_file() and stamp.read_text() == made_by:
        return 0
    print("Compiling, once for this state of the sources; RELAY_COMPILED=no declines …", file=sys.stderr, flush=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            _make(made_by)
    except (SystemExit, Exception) as error:  # noqa: BLE001 - plain Python does as well
        print(f"{said.getvalue()}compiling failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _make(made_by: str) -> None:
    Path(BUILDS).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILDS, prefix="building-") as folder, contextlib.chdir(folder):
        named = build()
        Path("whole/made-by").write_text(made_by)
        if Path(BUILDS, named).exists():  # made by another state of this file
            Path(BUILDS, named).rename("old")
        Path("whole").rename(Path(BUILDS, named))
    builds = sorted((path for path in Path(BUILDS).iterdir() if (path / "made-by").is_file()), key=_age)
    for old in builds[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _age(build: Path) -> float:
    return -build.stat().st_mtime


if __name__ == "__main__":
    sys.exit(main())
