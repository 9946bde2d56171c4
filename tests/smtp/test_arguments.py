from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import Body
from relay.outcome import Reply
from relay.smtp.arguments import Mail, Rcpt, parse_mail, parse_rcpt


def code(result: object) -> tuple[int, str | None] | None:
    return (result.code, result.enhanced) if isinstance(result, Reply) else None


@pytest.mark.parametrize(
    "argument", ["FROM:<a@b>", "from:<a@b>", "FROM: <a@b>", "FROM :<a@b>", "FROM:a@b", "FROM: a@b", "FROM:<@r:a@b>"]
)
def test_the_path_of_mail(argument: str) -> None:
    assert parse_mail(argument) == Mail("a@b")


def test_the_null_path_is_the_empty_address() -> None:
    assert parse_mail("FROM:<>") == Mail("")
    assert parse_mail("FROM:<> SIZE=5") == Mail("", 5)


def test_all_parameters_of_mail_with_their_case() -> None:
    assert parse_mail("FROM:<ü@b> size=12345 Body=8bitmime SMTPUTF8 RET=hdrs ENVID=QQ+2B314x") == Mail(
        "ü@b", 12345, Body.EIGHT_BIT, smtputf8=True, ret="hdrs", envid="QQ+2B314x"
    )


@pytest.mark.parametrize("argument", ["", "FROM", "FROM:", "FROM: ", "FRM:<a@b>", "TO:<a@b>", "FROM<a@b>", "<a@b>"])
def test_mail_without_its_form_is_a_syntax_error(argument: str) -> None:
    assert code(parse_mail(argument)) == (501, "5.5.4")


@pytest.mark.parametrize(
    "parameters",
    [
        "SIZE",
        "SIZE=",
        "SIZE=-1",
        "SIZE=1x",
        "SIZE=\u00b2",
        "SIZE=\u0661",
        "SIZE=" + "9" * 21,
        "SIZE=1 SIZE=2",
        "SIZE=1 size=1",
        "BODY",
        "BODY=BINARYMIME",
        "BODY=9BIT",
        "SMTPUTF8=yes",
        "RET=ALL",
        "AUTH",
        "AUTH=a=b",
        "ENVID=a=b",
        "ENVID=a+2",
        "ENVID=a+2b",
        "ENVID=ü",
        "ENVID=" + "x" * 101,
        "=x",
        "-X=1",
        "S\u0131ZE=1",
    ],
)
def test_a_bad_value_of_a_parameter_of_mail(parameters: str) -> None:
    assert code(parse_mail(f"FROM:<a@b> {parameters}")) == (501, "5.5.4")


@pytest.mark.parametrize("parameter", ["FOO", "FOO=bar", "NOTIFY=NEVER", "MT-PRIORITY=3"])
def test_an_unknown_parameter_of_mail(parameter: str) -> None:
    refusal = parse_mail(f"FROM:<a@b> {parameter}")
    assert code(refusal) == (555, "5.5.4")
    assert parameter not in str(refusal)


@pytest.mark.parametrize("value", ["<>", "app+2Bx@example.com"])
def test_who_authenticated_before_is_read_and_dropped(value: str) -> None:
    assert parse_mail(f"FROM:<a@b> AUTH={value}") == Mail("a@b")


def test_something_behind_the_path_is_no_parameter() -> None:
    assert code(parse_mail("FROM:<a@b>SIZE=1")) == (501, "5.5.4")
    assert code(parse_mail("FROM:<a@b>\x00")) == (501, "5.5.4")


def test_an_address_beyond_ascii_needs_smtputf8() -> None:
    assert code(parse_mail("FROM:<ü@b>")) == (553, "5.6.7")
    assert code(parse_mail("FROM:<ü@b> SIZE=1")) == (553, "5.6.7")
    assert code(parse_rcpt("TO:<ü@b>")) == (553, "5.6.7")
    assert code(parse_rcpt("TO:<ü@b> FOO")) == (553, "5.6.7")
    assert parse_rcpt("TO:<ü@b>", smtputf8=True) == Rcpt("ü@b")


def test_a_control_character_in_a_path() -> None:
    assert code(parse_mail("FROM:<a\r@b>")) == (553, "5.1.3")
    assert code(parse_rcpt('TO:<"x\rRCPT TO:<evil@e>"@b>')) == (553, "5.1.3")


@pytest.mark.parametrize("argument", ["TO:<a@b>", "to: <a@b>", "TO:a@b"])
def test_the_path_of_rcpt(argument: str) -> None:
    assert parse_rcpt(argument) == Rcpt("a@b")


def test_postmaster_alone_is_a_recipient() -> None:
    assert parse_rcpt("TO:<Postmaster>") == Rcpt("Postmaster")
    assert parse_rcpt("TO:postmaster") == Rcpt("postmaster")
    assert code(parse_mail("FROM:postmaster")) == (553, "5.1.3")


def test_cron_names_no_domain() -> None:
    assert parse_mail("FROM:<root> SIZE=5") == Mail("root", 5)
    assert parse_rcpt("TO:<root> NOTIFY=NEVER") == Rcpt("root", "NEVER")
    assert code(parse_mail("FROM:<rööt>")) == (553, "5.6.7")
    # A parameter without its path is none.
    assert code(parse_mail("FROM: SIZE=5")) == (553, "5.1.3")


@pytest.mark.parametrize("argument", ["", "TO", "TO:", "TO: ", "FROM:<a@b>"])
def test_rcpt_without_its_form_is_a_syntax_error(argument: str) -> None:
    assert code(parse_rcpt(argument)) == (501, "5.5.4")


def test_the_null_path_is_no_recipient() -> None:
    assert code(parse_rcpt("TO:<>")) == (553, "5.1.3")


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "Success,failure", "FAILURE,DELAY,SUCCESS"])
def test_notify_is_kept_as_given(notify: str) -> None:
    assert parse_rcpt(f"TO:<a@b> NOTIFY={notify}") == Rcpt("a@b", notify)


@pytest.mark.parametrize("orcpt", ["rfc822;Bob+2Bx@example.com", "utf-8;b\\x{FC}b@e.test", "x-y;1"])
def test_orcpt_stays_encoded(orcpt: str) -> None:
    assert parse_rcpt(f"TO:<a@b> ORCPT={orcpt}") == Rcpt("a@b", None, orcpt)


def test_orcpt_beyond_ascii_needs_smtputf8() -> None:
    assert code(parse_rcpt("TO:<a@b> ORCPT=utf-8;büb@e")) == (501, "5.5.4")
    assert parse_rcpt("TO:<a@b> ORCPT=utf-8;büb@e", smtputf8=True) == Rcpt("a@b", None, "utf-8;büb@e")


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=ALWAYS",
        "NOTIFY=NEVER,DELAY",
        "NOTIFY=DELAY,DELAY",
        "NOTIFY=DELAY,",
        "ORCPT=rfc822",
        "ORCPT=;x",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a+zz",
        "ORCPT=rfc822;" + "x" * 500,
        "ORCPT=r f;x",
    ],
)
def test_a_bad_value_of_a_parameter_of_rcpt(parameter: str) -> None:
    assert code(parse_rcpt(f"TO:<a@b> {parameter}")) in {(501, "5.5.4"), (555, "5.5.4")}


@pytest.mark.parametrize("parameter", ["FOO", "SIZE=3", "RRVS=2014-04-03T23:01:00Z"])
def test_an_unknown_parameter_of_rcpt(parameter: str) -> None:
    assert code(parse_rcpt(f"TO:<a@b> {parameter}")) == (555, "5.5.4")


ARGUMENTS = st.binary(max_size=200) | st.builds(
    bytes.__add__, st.sampled_from([b"FROM:<a@b> ", b"TO:<a@b> ", b"FROM:", b"TO:<"]), st.binary(max_size=60)
)


@given(ARGUMENTS, st.booleans())
def test_any_octets_get_a_value_or_a_refusal(octets: bytes, smtputf8: bool) -> None:
    argument = octets.decode("utf-8", "surrogateescape")
    for result in (parse_mail(argument), parse_rcpt(argument, smtputf8=smtputf8)):
        if isinstance(result, Reply):
            assert result.code in {501, 553, 555}
            assert str(result).isascii()
            assert str(result).isprintable()
        else:
            kept = [value for value in result if isinstance(value, str)]
            assert all(character >= " " and character != "\x7f" for value in kept for character in value)
            assert all(value.encode() for value in kept[1:])
