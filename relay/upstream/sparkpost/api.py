"""SparkPost as an API of the port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from relay.clock import Clock
from relay.outcome import Outcome, Scope, Verdict, lost, unavailable
from relay.settings import Secret, UpstreamSettings
from relay.smtp.capabilities import Capabilities
from relay.upstream import DeliveryRequest, Told, UpstreamUnavailable
from relay.upstream.http.body import JsonText, NotText, body_of
from relay.upstream.http.connection import Broken, HttpConnection
from relay.upstream.http.request import HttpRequest, HttpResponse, Origin, origin_of, refusal
from relay.upstream.http.session import Unfit
from relay.upstream.sparkpost.outcomes import errors_of, is_about_some_address, judge, refused
from relay.upstream.sparkpost.request import ACCOUNT, ENDPOINT, TAKES, around, limits_of, path

ACCOUNT_EVERY: Final = 300.0
"""Seconds between looks at the account's usage."""
ONE_BY_ONE_FOR: Final = 600.0
"""Seconds that recipients go one a request after some of several were refused without their names."""


class SparkPostApi:
    """``kind = "sparkpost"``; ``told`` hears what the account may send."""

    def __init__(self, settings: UpstreamSettings, clock: Clock, told: Told) -> None:
        self.origin: Origin = origin_of(settings.endpoint or ENDPOINT)
        self._told = told
        self._key = settings.api_key or Secret("")
        self._around = partial(
            around, options=dict(settings.options), with_return_path=settings.return_path == "sender"
        )
        self._timeout = settings.connect_timeout
        self._clock = clock
        self._account_at = float("-inf")
        self._one_by_one_until = float("-inf")

    @property
    def capabilities(self) -> Capabilities:
        """2,000 recipients; for a while one, where some of several were refused and it did not say which."""
        if self._clock.monotonic() < self._one_by_one_until:
            return replace(TAKES, max_recipients=1)
        return TAKES

    async def prepare(self, connection: HttpConnection, host: str) -> None:
        """Now and then ask what the account may send; raises UpstreamUnavailable."""
        now = self._clock.monotonic()
        if now < self._account_at + ACCOUNT_EVERY:
            return
        self._account_at = now
        try:
            asked = HttpRequest("GET", ACCOUNT, {"Authorization": self._key.value})
            response = await connection.exchange(asked, self._timeout, self._timeout)
        except Broken as error:
            self._account_at = float("-inf")
            raise UpstreamUnavailable(unavailable(f"{error.what} with {host}", "4.4.2")) from None
        if response.status == 200:
            self._told(limits_of(response.json(), self._clock.now()))
        elif response.status == 401:  # 403: a key may be for transmissions alone; then the mail itself tells
            self._account_at = float("-inf")
            raise UpstreamUnavailable(refused(response, host))

    async def compose(self, request: DeliveryRequest, host: str) -> HttpRequest:
        """A transmission of the message as it is."""
        envelope = request.message.envelope
        head, tail = self._around(envelope)
        try:
            body = await body_of(request, head, JsonText, tail)
        except NotText:
            what = f"8-bit content that is no UTF-8 can't be put to {host}, which takes JSON"
            raise Unfit(Outcome(Verdict.FAILED, Scope.MESSAGE, "5.6.3", what, unfit=True)) from None
        fields = {"Authorization": self._key.value, "Content-Type": "application/json"}
        return HttpRequest("POST", path(len(envelope.recipients)), fields, body)

    def judge(self, request: DeliveryRequest, response: HttpResponse, host: str) -> Sequence[Outcome]:
        """One outcome per recipient, in their order."""
        envelope = request.message.envelope
        count = len(envelope.recipients)
        outcomes = judge(envelope, response, host)
        if outcomes is None:
            # Some will get it twice, which is better than some never. Once: from now on they go one by one.
            self._send_one_by_one()
            what = "some of several recipients were rejected, and it was not said which"
            return (lost(what, host=host, in_doubt=True),) * count
        if count > 1 and is_about_some_address(response):
            self._send_one_by_one()
            again = refusal(response, errors_of(response), host=host, scope=Scope.SESSION, dsn="4.5.0")
            return (again,) * count
        return outcomes

    def _send_one_by_one(self) -> None:
        self._one_by_one_until = self._clock.monotonic() + ONE_BY_ONE_FOR
