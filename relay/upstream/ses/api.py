"""SES as an API of the port: signed requests, the account's quota read now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from relay.clock import Clock
from relay.outcome import Outcome, Scope, Trouble, unavailable
from relay.settings import UpstreamSettings
from relay.smtp.capabilities import Capabilities
from relay.upstream import DeliveryRequest, Told, UpstreamUnavailable
from relay.upstream.http.body import Base64Text, body_of
from relay.upstream.http.connection import Broken, HttpConnection
from relay.upstream.http.request import HttpRequest, HttpResponse, Origin, origin_of, refusal
from relay.upstream.http.session import Unfit
from relay.upstream.ses.outcomes import EXPIRED, error_of, is_about_some_address, judge, refused
from relay.upstream.ses.request import ACCOUNT, SEND, TAKES, around, endpoint, limits_of, may_send
from relay.upstream.ses.signing import NoCredentials, Signer

ACCOUNT_EVERY: Final = 300.0
"""Seconds between looks at the account: GetAccount may be asked once a second, by everybody together."""
ONE_BY_ONE_FOR: Final = 600.0
"""Seconds that recipients go one a request after one of several was refused without its name."""


class SesApi:
    """``kind = "ses"``; ``told`` hears what the account may send."""

    def __init__(self, settings: UpstreamSettings, clock: Clock, told: Told) -> None:
        keys = None
        if settings.access_key_id is not None and settings.secret_access_key is not None:
            keys = settings.access_key_id, settings.secret_access_key
        self.origin: Origin = origin_of(settings.endpoint or endpoint(settings.region))
        self._told = told
        self._signer = Signer(settings.region, keys, clock.monotonic)
        self._configuration_set = settings.configuration_set
        self._timeout = settings.connect_timeout
        self._clock = clock
        self._account_at = float("-inf")
        self._one_by_one_until = float("-inf")

    @property
    def capabilities(self) -> Capabilities:
        """50 recipients; for a while one, where one of several was refused and SES did not say which."""
        if self._clock.monotonic() < self._one_by_one_until:
            return replace(TAKES, max_recipients=1)
        return TAKES

    async def prepare(self, connection: HttpConnection, host: str) -> None:
        """See to credentials and, now and then, to what the account may send; raises UpstreamUnavailable."""
        try:
            await self._signer.ready()
            now = self._clock.monotonic()
            if now < self._account_at + ACCOUNT_EVERY:
                return
            self._account_at = now
            asked = await self._signer.signed(self.origin, HttpRequest("GET", ACCOUNT, {}))
            response = await connection.exchange(asked, self._timeout, self._timeout)
        except NoCredentials as error:
            raise UpstreamUnavailable(unavailable(str(error), "4.7.0", Trouble.AUTH)) from None
        except Broken as error:
            self._account_at = float("-inf")
            raise UpstreamUnavailable(unavailable(f"{error.what} with {host}", "4.4.2")) from None
        self._learn(response, host)

    async def compose(self, request: DeliveryRequest, host: str) -> HttpRequest:
        """SendEmail with the message as it is."""
        del host
        head, tail = around(request.message.envelope, self._configuration_set)
        body = await body_of(request, head, Base64Text, tail)
        plain = HttpRequest("POST", SEND, {"Content-Type": "application/json"}, body)
        try:
            return await self._signer.signed(self.origin, plain)
        except NoCredentials as error:
            raise Unfit(unavailable(str(error), "4.7.0", Trouble.AUTH)) from None

    def judge(self, request: DeliveryRequest, response: HttpResponse, host: str) -> Sequence[Outcome]:
        """One outcome per recipient, in their order."""
        envelope = request.message.envelope
        if response.status == 403 and error_of(response)[0] in EXPIRED and self._signer.expired():
            return self._again(request, response, host, "4.7.0")
        if len(envelope.recipients) > 1 and response.status == 400 and is_about_some_address(response):
            self._one_by_one_until = self._clock.monotonic() + ONE_BY_ONE_FOR
            return self._again(request, response, host, "4.5.0")
        return judge(envelope, response, host)

    @staticmethod
    def _again(request: DeliveryRequest, response: HttpResponse, host: str, dsn: str) -> Sequence[Outcome]:
        """Nothing was taken, and the next try is another one: it costs nothing."""
        again = refusal(response, ": ".join(error_of(response)), host=host, scope=Scope.SESSION, dsn=dsn)
        return (again,) * len(request.message.envelope.recipients)

    def _learn(self, response: HttpResponse, host: str) -> None:
        account = response.json()
        if response.status == 200:
            self._told(limits_of(account, self._clock.now()))
            if not may_send(account):
                self._account_at = float("-inf")
                what = f"host {host} said: the account's ability to send email is paused or ended"
                raise UpstreamUnavailable(unavailable(what, "4.7.0", Trouble.ACCOUNT))
            return
        code, text = error_of(response)
        if code.startswith("AccessDenied") or response.status not in {401, 403}:
            return  # the policy may allow sending alone: then the mail itself tells
        self._account_at = float("-inf")
        if code in EXPIRED:
            self._signer.expired()
        raise UpstreamUnavailable(refused(response, code, text, host))
