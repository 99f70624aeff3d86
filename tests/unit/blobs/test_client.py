"""minio-py on the store's time: against a server that is one function, so nothing is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import minio
import pytest
import urllib3
from minio.signer import sign_v4_s3
from pydantic import SecretStr

from quantry_blobs.client import SIGNED_BY_STORE_TIME, ClientOnStoreTime, StorePool, connect
from quantry_blobs.clock import AMZ_DATE_FORMAT, StoreClock
from quantry_blobs.errors import StoreRefused, StoreUnavailable
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import REMOVAL_TIMEOUT_S
from quantry_store.database import IDLE_IN_TRANSACTION_TIMEOUT_S

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()
MAX_SKEW_S = 900


class Server:
    """Answers as an S3 server whose only object is ``bucket/key`` of 3 bytes, and notes how far each request was ahead of it."""

    def __init__(self) -> None:
        self.now_unix_s = NOON
        self.told_ahead_s = 0.0
        self.denied = False
        self.tells_date = True
        self.skews_s: list[float] = []

    def answer(self, method: str, url: str, _redirect: bool, **options: Any) -> urllib3.HTTPResponse:
        signed = datetime.strptime(options["headers"]["x-amz-date"], AMZ_DATE_FORMAT).replace(tzinfo=UTC)
        self.skews_s.append(signed.timestamp() - self.now_unix_s)
        headers = {"Date": format_datetime(datetime.fromtimestamp(self.now_unix_s + self.told_ahead_s, UTC), usegmt=True)}
        if not self.tells_date:
            headers = {}
        if abs(self.skews_s[-1]) > MAX_SKEW_S or self.denied:
            return urllib3.HTTPResponse(b"", headers, 403, request_method=method)
        found = {"Content-Length": "3", "ETag": "e", "Last-Modified": "Sun, 01 Mar 2026 11:00:00 GMT"}
        return urllib3.HTTPResponse(b"", headers | found, 200 if url.endswith("/bucket/key") else 404, request_method=method)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(urllib3.PoolManager, "urlopen", made.answer)
    return made


def settings() -> BlobSettings:
    return BlobSettings(endpoint="s3.test:9000", access_key="key", secret_key=SecretStr("secret"))


def store_at(offset_s: float) -> MinioStore:
    """A store on a machine whose clock is ahead by ``offset_s`` seconds."""
    return MinioStore(settings(), now_unix_s=lambda: NOON + offset_s)


def test_the_release_of_minio_py_is_one_it_was_tried_with() -> None:
    # If this fails after an upgrade: see whether _build_headers still gives a request its time, then add the release.
    assert minio.__version__ in SIGNED_BY_STORE_TIME
    assert type(connect(settings(), StorePool(), StoreClock(lambda: NOON))) is ClientOnStoreTime


def test_the_signature_is_that_of_the_corrected_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, dict[str, Any]]] = []

    def signed(**request: Any) -> Any:
        sent.append((request["date"], dict(request["headers"])))
        return sign_v4_s3(**request)

    monkeypatch.setattr("minio.api.sign_v4_s3", signed)
    assert store_at(7200).stat("bucket", "key") == 3
    assert [date.timestamp() - NOON for date, _ in sent] == [7200, 0]
    assert [headers["x-amz-date"] for _, headers in sent] == ["20260301T140000Z", "20260301T120000Z"]


@pytest.mark.parametrize("offset_s", [7200, -7200])
def test_a_wrong_clock_costs_one_request(server: Server, offset_s: int) -> None:
    store = store_at(offset_s)
    assert [store.stat("bucket", key) for key in ("key", "other", "key")] == [3, None, 3]
    assert server.skews_s == [offset_s, 0, 0, 0]


def test_a_right_clock_is_left_alone(server: Server) -> None:
    assert store_at(20).stat("bucket", "key") == 3
    assert server.skews_s == [20]


def test_stores_do_not_disturb_each_other(server: Server) -> None:
    ahead, right, behind = store_at(7200), store_at(0), store_at(-7200)
    for store in (ahead, right, behind) * 2:
        assert store.stat("bucket", "key") == 3
    assert server.skews_s == [7200, 0, 0, -7200, 0, 0, 0, 0]


def test_a_clock_that_is_set_right_later(server: Server) -> None:
    here = [NOON + 7200]
    store = MinioStore(settings(), now_unix_s=lambda: here[0])
    assert store.stat("bucket", "key") == 3
    here[0] = NOON
    assert store.stat("bucket", "key") == 3
    assert store.stat("bucket", "key") == 3
    assert server.skews_s == [7200, 0, -7200, 0, 0]


def test_a_request_denied_for_itself_is_told_as_that(server: Server) -> None:
    server.denied = True
    with pytest.raises(StoreRefused):
        store_at(7200).stat("bucket", "key")
    assert server.skews_s == [7200, 0]


def test_a_time_that_did_not_help_is_not_kept(server: Server) -> None:
    store = store_at(0)
    server.denied, server.told_ahead_s = True, 7200
    with pytest.raises(StoreRefused):
        store.stat("bucket", "key")
    server.denied = False
    assert store.stat("bucket", "key") == 3
    assert server.skews_s == [0, 7200, 0]


def test_a_server_that_tells_no_time(server: Server) -> None:
    server.tells_date = False
    with pytest.raises(StoreRefused):
        store_at(7200).stat("bucket", "key")
    assert server.skews_s == [7200]


@pytest.mark.parametrize(("offset_s", "words"), [(7200, "7200 s ahead of"), (-7200, "7200 s behind")])
def test_another_release_says_what_is_wrong(server: Server, monkeypatch: pytest.MonkeyPatch, offset_s: int, words: str) -> None:
    monkeypatch.setattr(minio, "__version__", "99.0.0")
    monkeypatch.setattr("minio.time.utcnow", lambda: datetime.fromtimestamp(NOON + offset_s, UTC))
    with pytest.raises(StoreUnavailable, match=f"refuses bucket/key: the request's time is {words} the store's, 2026-03-01 12:00:00 UTC"):
        store_at(offset_s).stat("bucket", "key")
    assert server.skews_s == [offset_s]


def test_a_removal_inside_a_transaction_is_not_tried_again_and_soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def hang(_pool: Any, _connection: Any, method: str, url: str, *, timeout: urllib3.Timeout, **_options: Any) -> Any:
        assert timeout.connect_timeout == timeout.read_timeout
        asked.append((method, float(timeout.read_timeout or 0)))
        raise urllib3.exceptions.ReadTimeoutError(_pool, url, "silent")

    monkeypatch.setattr(urllib3.connectionpool.HTTPConnectionPool, "_make_request", hang)
    with pytest.raises(StoreUnavailable):
        store_at(0).delete_once("bucket", "key")
    assert asked == [("DELETE", REMOVAL_TIMEOUT_S)]
    # Two of them, for the one repetition with another time, and the wait before: all of it well inside a transaction's idle time.
    assert 4 * REMOVAL_TIMEOUT_S < IDLE_IN_TRANSACTION_TIMEOUT_S
