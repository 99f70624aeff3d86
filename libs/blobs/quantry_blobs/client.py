"""What minio-py is given to work on every server and on every machine: connections, and the time it signs with."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import minio
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from quantry_blobs.clock import AMZ_DATE_FORMAT, MIN_SKEW_S, StoreClock, ahead_or_behind, http_date, signed_ahead_s
from quantry_blobs.settings import BlobSettings

SIGNED_BY_STORE_TIME = {"7.2.20"}
"""The releases of minio-py that ``ClientOnStoreTime`` was tried with. Any other signs with this machine's time."""

UNHASHED_BODY = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
"""The header of a request whose body the signature leaves out: for bytes that are hashed as a whole where they are read again.
Over TLS minio-py leaves every body out, and sends an MD5 instead, three times as slow as SHA-256; this does without."""

_REFUSALS = {400, 401, 403}
"""What a wrong time is answered with. The code is no help: rclone says RequestTimeTooSkewed to a clock that is ahead and
AccessDenied to one that is behind, and an answer to HEAD says nothing."""


class TimeRefused(MinioException):
    """A request was refused that was signed ``skew_s`` seconds ahead of the store's time."""

    def __init__(self, skew_s: float, store_time: datetime) -> None:
        told = f"{store_time:%Y-%m-%d %H:%M:%S} UTC"
        super().__init__(f"the request's time is {ahead_or_behind(skew_s)} the store's, {told}; set this machine's clock right")
        self.store_time = store_time


class StorePool(urllib3.PoolManager):
    """Connections whose ``text/xml`` answers (rclone's) are called ``application/xml``: minio-py reads errors from no other.

    No redirect is followed: a store is where its settings say, and a bucket of somebody else's leads nowhere else.
    Raises TimeRefused where a request with another time than the store's was refused.
    """

    def urlopen(  # type: ignore[override]
        self,
        method: str,
        url: str,
        redirect: bool = True,  # noqa: ARG002  urllib3 gives it
        **options: Any,
    ) -> urllib3.BaseHTTPResponse:
        began_s = time.monotonic()
        response = super().urlopen(method, url, False, **options)
        if response.headers.get("Content-Type", "").startswith("text/xml"):
            response.headers["Content-Type"] = "application/xml"
        if response.status in _REFUSALS:
            store_time = http_date(response.headers.get("Date"))
            skew_s = signed_ahead_s(options["headers"].get("x-amz-date"), store_time, time.monotonic() - began_s)
            if store_time is not None and abs(skew_s) > MIN_SKEW_S:
                response.drain_conn()
                raise TimeRefused(skew_s, store_time)
        return response


class ClientOnStoreTime(Minio):
    """minio-py that signs with the store's time, which it learns from the first request that was refused for its time.

    minio-py takes the time from its own module and has no way to be given another; patching that would change every
    store of the process. So one of its methods is replaced here in which the time becomes part of a request, and the
    one around it that sends, both of them private: hence SIGNED_BY_STORE_TIME. Presigned URLs are not corrected: none
    are made.
    """

    def __init__(self, clock: StoreClock, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clock = clock

    def _build_headers(self, host: str, headers: Any = None, body: bytes | None = None, creds: Any = None) -> Any:
        if headers and headers.items() >= UNHASHED_BODY.items() and body:
            headers, _ = super()._build_headers(host, headers, None, creds)
            headers |= {**UNHASHED_BODY, "Content-Length": str(len(body))}
        else:
            headers, _ = super()._build_headers(host, headers, body, creds)
        date = self._clock.now()
        headers["x-amz-date"] = date.strftime(AMZ_DATE_FORMAT)
        return headers, date

    def _url_open(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super()._url_open(*arguments, **options)
        except TimeRefused as refused:
            known_s = self._clock.ahead_s
            self._clock.set_by(refused.store_time)
        try:
            return super()._url_open(*arguments, **options)
        except (S3Error, TimeRefused) as error:
            if isinstance(error, TimeRefused) or error.response.status in _REFUSALS:
                # The time was not why, or not the only reason: what a refusal says of it is not to be built on.
                self._clock.ahead_s = known_s
            raise


def connect(settings: BlobSettings, pool: StorePool, clock: StoreClock) -> Minio:
    """Returns a client of the server: one that signs with ``clock``, where this release of minio-py is known to let it."""
    arguments = (settings.endpoint, settings.access_key, settings.secret_key.get_secret_value())
    if minio.__version__ in SIGNED_BY_STORE_TIME:
        return ClientOnStoreTime(clock, *arguments, secure=settings.secure, region=settings.region, http_client=pool)
    return Minio(*arguments, secure=settings.secure, region=settings.region, http_client=pool)
