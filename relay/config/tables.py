"""One table of relay.toml into one frozen dataclass, by cattrs with strict hooks: all that is wrong, not the first.

cattrs itself would read 3 as "3" and the letters of a string as an array; every type here has a hook that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from relay.config import values
from relay.config.environment import Variable
from relay.config.passwords import SECRETS, sources_of
from relay.config.problems import Problem, Unreadable, describe, unknown
from relay.settings import ControlSettings, SpoolSettings
from relay.spelling import Spelling

T = TypeVar("T")

_SPELLED_OTHERWISE: Final[dict[tuple[type, str], str]] = {
    (SpoolSettings, "path"): "url",
    (ControlSettings, "path"): "address",
}
"""Keys whose field bears another name."""

_NO_KEYS: Final = frozenset({"name", "provider"})
"""Fields that no key sets."""

_GIVEN: Final = "\0"
"""Before a field that no key of the file sets: no key can begin so."""


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """A table that was read. ``bad`` names its keys with problems: they stand at their defaults in ``value``."""

    name: str
    value: T
    raw: Mapping[str, Any]
    bad: frozenset[str]

    def problem(self, file: str, key: str, found: str, allowed: str) -> Problem:
        """A problem with one of its keys that shows only beside other values."""
        return Problem(file, self.name, key, found, allowed, variable_of(self.raw.get(key)))


def variable_of(raw: object) -> str | None:
    """The variable that a raw value, or the first one of a table, came from; None for the file's own."""
    if isinstance(raw, dict):
        return variable_of(next(iter(raw.values()), None))
    return raw.name if isinstance(raw, Variable) else None


def keys_of(of: type) -> dict[str, str]:
    """The keys that the file may have for a settings class, each with its field's name."""
    own = {_SPELLED_OTHERWISE.get((of, f.name), f.name): f.name for f in fields(of) if f.name not in _NO_KEYS}
    return own | {source: secret for secret in SECRETS.get(of, ()) for source in sources_of(secret)}


class TableReader:
    """Reads the tables of one file; ``folder`` is where its relative paths start."""

    def __init__(self, file: str, folder: Path) -> None:
        self._file = file
        self._converter = _strict_converter(folder)

    def read(
        self, of: type[T], name: str, raw: Mapping[str, Any], given: Mapping[str, object] = MappingProxyType({})
    ) -> tuple[Table[T], list[Problem]]:
        """Read ``raw`` as ``of``; ``given`` are fields that no key of the file sets."""
        structure = _table_hook(of, self._converter, given)
        extra = {f"{_GIVEN}{field}": value for field, value in given.items()}
        try:
            return Table(name, structure({**raw, **extra}, of), raw, frozenset()), []
        except ClassValidationError as error:
            wrong = sorted(_leaves(error, of), key=lambda leaf: list(raw).index(leaf[0]))
        bad = frozenset(key for key, _ in wrong)
        kept = {key: value for key, value in raw.items() if key not in bad}
        problems = [
            Problem(self._file, name, f"{key}{why.part}", why.found, why.allowed, variable_of(raw[key]))
            for key, why in wrong
        ]
        return Table(name, structure({**kept, **extra}, of), raw, bad), problems


def _leaves(error: ClassValidationError, of: type) -> Iterator[tuple[str, Unreadable]]:
    key_of = {field: key for key, field in keys_of(of).items()}
    noted, bare = error.group_exceptions()
    for wrong, note in noted:
        for leaf in wrong.exceptions if isinstance(wrong, ExceptionGroup) else (wrong,):
            if not isinstance(leaf, Unreadable):
                raise leaf
            yield key_of[note.name], leaf
    for wrong in bare:
        if not isinstance(wrong, ForbiddenExtraKeysError):
            raise wrong
        for key in wrong.extra_fields:
            yield key, Unreadable(*unknown(key, keys_of(of)))


def _strict_converter(folder: Path) -> Converter:
    converter = Converter(detailed_validation=True)

    def spelled(value: object, of: Any) -> object:
        return values.read(next(m for m in of.__metadata__ if isinstance(m, Spelling)), value, folder)

    def literal(value: object, of: Any) -> object:
        if isinstance(value, str) and value in get_args(of):
            return value
        raise Unreadable(describe(value), " or ".join(f'"{choice}"' for choice in get_args(of)))

    def array(value: object, of: Any) -> tuple[object, ...]:
        if not isinstance(value, list) or not value:
            raise Unreadable(describe(value), "an array with one element at least")
        element = get_args(of)[0]
        read, wrong = [], []
        for n, each in enumerate(value):
            try:
                read.append(converter.structure(each, element))
            except Unreadable as why:
                wrong.append(Unreadable(why.found, why.allowed, part=f"[{n}]"))
        if wrong:
            raise ExceptionGroup("elements", wrong)
        return tuple(read)

    def exactly(kind: type, allowed: str) -> Callable[[object, Any], object]:
        def read(value: object, _of: Any) -> object:
            if type(value) is kind and value != "":
                return value
            raise Unreadable(describe(value), allowed)

        return read

    def optional(value: object, of: Any) -> object:
        return converter.structure(value, next(a for a in get_args(of) if a is not type(None)))

    converter.register_structure_hook_func(lambda t: type(None) in get_args(t), optional)
    by_origin: list[tuple[Any, Callable[[object, Any], object]]]
    by_origin = [(tuple, array), (Literal, literal), (Annotated, spelled)]
    for origin, hook in by_origin:
        converter.register_structure_hook_func(partial(_has_origin, origin), hook)
    converter.register_structure_hook(bool, exactly(bool, "true or false"))
    converter.register_structure_hook(str, exactly(str, "a string that is not empty"))
    return converter


def _has_origin(origin: object, of: Any) -> bool:
    return get_origin(of) is origin


def _table_hook(of: type[T], converter: Converter, given: Iterable[str]) -> Callable[[Mapping[str, Any], Any], T]:
    # cattrs resolves the annotations of a module with postponed evaluation without their Annotated part: hand it hooks.
    hints = get_type_hints(of, include_extras=True)

    def hook(hint: Any) -> Callable[[object, Any], object]:
        def read(value: object, _of: Any) -> object:
            if not isinstance(value, Variable):
                return converter.structure(value, hint)
            try:
                return converter.structure(value.toml, hint)
            except (Unreadable, ExceptionGroup):
                # A user name of digits is text after all; what fails as text too is shown as what it was taken for.
                if isinstance(value.toml, str):
                    raise
                try:
                    return converter.structure(value.text, hint)
                except Unreadable:
                    pass
                raise

        return read

    overrides: dict[str, Any] = {
        field: override(rename=key, struct_hook=hook(hints[field])) for key, field in keys_of(of).items()
    }
    overrides |= {field: override(rename=f"{_GIVEN}{field}", struct_hook=lambda value, _of: value) for field in given}
    return make_dict_structure_fn(
        of, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **overrides
    )
