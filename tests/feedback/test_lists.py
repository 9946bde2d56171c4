from __future__ import annotations

import pytest

from relay.feedback.lists import Listed, NoList, read_list
from relay.suppression import Cause


def causes(text: str) -> list[tuple[str, Cause]]:
    return [(each.address, each.cause) for each in read_list(text)]


def test_one_address_a_line() -> None:
    text = "\ufeff# old ones\n a@x.example \n\nb@x.example\r\n"
    assert list(read_list(text)) == [
        Listed("a@x.example", Cause.OPERATOR, "imported"),
        Listed("b@x.example", Cause.OPERATOR, "imported"),
    ]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('email,created\n"a@x.example",1500000000\n', Cause.OPERATOR),  # SendGrid
        ("email,created,reason\na@x.example,1,550 5.1.1 bounced\n", Cause.BOUNCE),
        (
            "Recipient,Type,Source,Description\na@x.example,transactional,Spam Complaint,\n",
            Cause.COMPLAINT,
        ),  # SparkPost
        ("address,error,created_at\na@x.example,No such mailbox,today\n", Cause.OPERATOR),  # Mailgun
        ('{"SuppressedDestinationSummaries": [{"EmailAddress": "a@x.example", "Reason": "BOUNCE"}]}', Cause.BOUNCE),
        ('[{"EmailAddress": "a@x.example", "Reason": "COMPLAINT"}]', Cause.COMPLAINT),
    ],
)
def test_lists_of_providers(text: str, cause: Cause) -> None:
    assert causes(text) == [("a@x.example", cause)]


@pytest.mark.parametrize("text", ["name,age\nx,3\n", "{", '{"a": 1}', '[{"Email": "x"}]', "[" * 100_000])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(NoList):
        list(read_list(text))


def test_a_field_that_never_ends_is_no_list() -> None:
    with pytest.raises(NoList, match="no CSV"):
        list(read_list('email,reason\n"' + "x" * 140_000))


def test_nothing_is_an_empty_list() -> None:
    assert causes("\n") == []
