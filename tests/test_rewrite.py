from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import Body, Envelope, Recipient
from relay.rewrite import Rewriting, Rewritten


def envelope(sender: str, *addresses: str) -> Envelope:
    return Envelope(sender, tuple(Recipient(n, address) for n, address in enumerate(addresses)))


def rewritten(given_: Envelope, **aliases: str) -> Rewritten:
    pairs = [(name.replace("__at__", "@"), target) for name, target in aliases.items()]
    return Rewriting("relay.test", pairs).rewrite(given_)


def addresses(result: Rewritten) -> list[str]:
    return [recipient.address for recipient in result.envelope.recipients]


@pytest.mark.parametrize("sender", ["", "a@x.test", '"a b"@x.test'])
def test_whole_addresses_stay(sender: str) -> None:
    given_ = envelope(sender, "b@y.test", '"@"@y.test', "c@[192.0.2.1]")
    assert rewritten(given_) == Rewritten(given_)
    assert rewritten(given_, root="ops@example.com") == Rewritten(given_)


def test_cron_gets_the_default_domain() -> None:
    result = rewritten(envelope("root", "root", '"a@b"'))
    assert result.envelope == envelope("root@relay.test", "root@relay.test", '"a@b"@relay.test')
    assert result.repairs == (
        "sender root -> root@relay.test",
        "recipient root -> root@relay.test",
        'recipient "a@b" -> "a@b"@relay.test',
    )


@pytest.mark.parametrize("address", ["root", "ROOT"])
def test_an_alias_of_a_local_part_is_for_addresses_without_a_domain(address: str) -> None:
    result = rewritten(envelope("root", address, "root@other.test"), root="ops@example.com")
    assert result.envelope == envelope("root@relay.test", "ops@example.com", "root@other.test")
    assert result.repairs == ("sender root -> root@relay.test", f"recipient {address} -> ops@example.com")


@pytest.mark.parametrize("address", ["a@b.test", "A@B.Test"])
def test_an_alias_of_a_whole_address(address: str) -> None:
    assert addresses(rewritten(envelope("", address), a__at__b="x@y.test")) == [address]
    pairs = [("A@b.test", "c@d.test")]
    assert addresses(Rewriting("relay.test", pairs).rewrite(envelope("", address))) == ["c@d.test"]


def test_an_address_that_was_completed_may_be_an_alias() -> None:
    pairs = [("root@relay.test", "c@d.test")]
    assert addresses(Rewriting("relay.test", pairs).rewrite(envelope("", "root"))) == ["c@d.test"]


def test_a_target_is_not_looked_up_again() -> None:
    pairs = [("a@x", "b@x"), ("b@x", "a@x")]
    assert addresses(Rewriting("relay.test", pairs).rewrite(envelope("", "a@x", "b@x"))) == ["b@x", "a@x"]


def test_recipients_that_became_one_are_one() -> None:
    aliases = {"root": "ops@example.com", "admin": "ops@example.com"}
    before = envelope("", "root", "z@z", "ops@example.com", "admin")
    after = rewritten(before, **aliases)
    assert after.envelope == envelope("", "ops@example.com", "z@z")
    assert len(after.repairs) == 2
    assert addresses(rewritten(envelope("", "ops@example.com", "root"), **aliases)) == ["ops@example.com"]
    twice = envelope("", "ops@example.com", "ops@example.com")
    assert rewritten(twice, **aliases) == Rewritten(twice)


def test_parameters_go_with_their_recipient() -> None:
    recipient = Recipient(0, "root", "NEVER", "rfc822;root")
    result = rewritten(Envelope("a@b", (recipient,), Body.EIGHT_BIT, True, "HDRS", "e"))
    changed = Recipient(0, "root@relay.test", "NEVER", "rfc822;root")
    assert result.envelope == Envelope("a@b", (changed,), Body.EIGHT_BIT, True, "HDRS", "e")


NAMES = st.sampled_from(["a", "b", "c", "a@x", "b@x", "c@y"])


@given(NAMES, st.lists(NAMES, min_size=1), st.dictionaries(NAMES, st.sampled_from(["a@x", "b@x", "z@z"])))
def test_every_recipient_goes_somewhere_with_a_domain(
    sender: str, recipients: list[str], aliases: dict[str, str]
) -> None:
    rewriting = Rewriting("relay.test", aliases.items())
    result = rewriting.rewrite(envelope(sender, *recipients)).envelope
    assert all("@" in address for address in (result.sender, *(r.address for r in result.recipients)))
    assert [r.n for r in result.recipients] == list(range(len(result.recipients)))
    # Nobody gets less, or somebody else more, than each recipient alone would.
    alone = [rewriting.rewrite(envelope(sender, one)).envelope.recipients[0].address for one in recipients]
    assert {r.address for r in result.recipients} == set(alone)
    assert len(result.recipients) <= len(recipients)
