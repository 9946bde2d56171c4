from __future__ import annotations

import hashlib

import pytest
from argon2 import PasswordHasher, Type
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.listener.passwords import SALT_SIZE, flaw_of_hash, hash_password, verify

CHEAP = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0$"


def test_what_was_hashed_is_verified_and_nothing_else_is() -> None:
    phc = hash_password("Grüße", bytes(range(SALT_SIZE)))
    assert flaw_of_hash(phc) is None
    assert phc.startswith("$scrypt$ln=15,r=8,p=3$")
    assert verify("Grüße", phc)
    assert not verify("Gruße", phc)
    assert not verify("", phc)


def test_the_same_letters_are_the_same_password_however_they_are_composed() -> None:
    phc = hash_password("Gr\u00fc\u00dfe", bytes(SALT_SIZE))
    assert verify("Gru\u0308\u00dfe", phc)


def test_a_hash_of_another_program_is_verified() -> None:
    import base64

    digest = hashlib.scrypt(b"geheim", salt=b"saltsaltsalt", n=16, r=8, p=1, dklen=32)
    phc = CHEAP + base64.b64encode(digest).decode().rstrip("=")
    assert flaw_of_hash(phc) is None
    assert verify("geheim", phc)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "geheim",
        "{SCRAM-SHA-256}x",
        CHEAP,
        CHEAP + "A" * 21,
        CHEAP.replace("ln=4", "ln=0") + "A" * 43,
        CHEAP.replace("ln=4", "ln=40") + "A" * 43,
        CHEAP.replace("r=8", "r=0") + "A" * 43,
        CHEAP.replace("p=1", "p=99") + "A" * 43,
        CHEAP + "A" * 45,
        CHEAP + "A" * 43 + "\n",
    ],
)
def test_what_is_no_hash_or_too_dear_is_refused_and_not_shown(text: str) -> None:
    flaw = flaw_of_hash(text)
    assert flaw is not None
    assert "geheim" not in flaw


def test_argon2_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    phc = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHRzYWx0$" + "A" * 43
    monkeypatch.setattr("relay.listener.passwords.find_spec", lambda _: None)
    assert flaw_of_hash(phc) == "an Argon2 hash, but argon2-cffi is not installed"
    monkeypatch.setattr("relay.listener.passwords.find_spec", lambda _: object())
    assert flaw_of_hash(phc) is None


@pytest.mark.parametrize("kind", [Type.ID, Type.I, Type.D])
def test_argon2_of_the_real_library_is_verified(kind: Type) -> None:
    phc = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=2, type=kind).hash("Grüße")
    assert phc.startswith(f"$argon2{kind.name.lower()}$")
    assert flaw_of_hash(phc) is None
    assert verify("Grüße", phc)
    assert verify("Gru\u0308\u00dfe", phc)
    assert not verify("Gruße", phc)
    assert not verify("", phc)


@pytest.mark.parametrize(
    "cost", ["m=9999999,t=3,p=4", "m=65536,t=99,p=4", "m=65536,t=0,p=4", "m=65536,t=3,p=0", "m=8,t=1,p=4"]
)
def test_argon2_too_dear_or_impossible_is_refused(cost: str) -> None:
    assert flaw_of_hash(f"$argon2id$v=19${cost}$c2FsdHNhbHRzYWx0$" + "A" * 43) == "no hash of a password (not shown)"


def test_argon2_in_broken_base64_is_nobodys() -> None:
    assert not verify("x", "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0A$" + "A" * 41)


@given(st.text())
@settings(max_examples=200)
def test_nothing_raises(text: str) -> None:
    flaw_of_hash(text)
