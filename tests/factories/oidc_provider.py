"""An OpenID Connect provider with real keys: it describes itself, asks nobody for a password, and signs what the test wants it to."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

from factories.threaded_server import serving_threads

CLIENT_ID = "quantry"
CLIENT_SECRET = "secret/of+the client"
"""With signs that must be escaped where a form or a header carries it."""
ISSUER = "https://id.example.org/realms/ml"


class Answer(NamedTuple):
    """What the provider answers; ``location`` of a redirect."""

    status: int
    body: Any = None
    location: str | None = None


def a_key(kid: str) -> RSAKey:
    """Returns a fresh pair."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}, auto_kid=False)


@dataclass
class LocalProvider:
    """What it says; tests change it as they go."""

    issuer: str = ISSUER
    key: RSAKey = field(default_factory=lambda: a_key("first"))
    claims: dict[str, Any] = field(
        default_factory=lambda: {"sub": "u-1", "email": "ada@example.org", "email_verified": True, "groups": ["ml"]}
    )
    """Of whoever signs in next."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What it says of itself otherwise than it should."""
    secret: str | None = CLIENT_SECRET
    denies: bool = False
    asked: list[str] = field(default_factory=list)
    published: list[RSAKey] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """ID tokens that were handed out."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(self, *, nonce: str = "n" * 32, key: RSAKey | None = None, **changed: Any) -> str:
        """Returns a signed ID token; ``changed`` claims take the place of good ones, None leaves one out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **self.claims, **changed}
        signing = key or self.key
        given = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": signing.kid}, given, signing)

    def rotate(self) -> None:
        """Signs with another key from now on."""
        self.key = a_key(f"key-{secrets.token_hex(4)}")

    def answer(self, method: str, url: str, *, form: dict[str, str] | None = None, authorization: str = "") -> Answer:
        """Returns the answer to a request."""
        parts = urlsplit(url)
        path = parts.path.removeprefix(urlsplit(self.issuer).path)
        with self.lock:
            self.asked.append(f"{method} {path}")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            match method, path:
                case "GET", "/.well-known/openid-configuration":
                    return Answer(200, self._description())
                case "GET", "/keys":
                    return Answer(200, {"keys": [key.as_dict(private=False) for key in (self.published or [self.key])]})
                case "GET", "/authorize":
                    return self._authorize(query)
                case "POST", "/token":
                    return self._exchange(form or {}, authorization)
                case _:
                    return Answer(404, {"error": "not_found"})

    def _description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            **self.metadata,
        }

    def _authorize(self, query: dict[str, str]) -> Answer:
        back = {"state": query["state"], "iss": self.issuer}
        if self.denies:
            return Answer(303, location=f"{query['redirect_uri']}?{urlencode({**back, 'error': 'access_denied'})}")
        if query["response_type"] != "code" or query["code_challenge_method"] != "S256" or query["client_id"] != CLIENT_ID:
            return Answer(400, {"error": "invalid_request"})
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return Answer(303, location=f"{query['redirect_uri']}?{urlencode({**back, 'code': code})}")

    def _exchange(self, form: dict[str, str], authorization: str) -> Answer:
        if self.secret is not None:
            wanted = base64.b64encode(f"{CLIENT_ID}:{self.secret}".encode()).decode()
            if authorization != f"Basic {wanted}":
                return Answer(401, {"error": "invalid_client"})
        begun = self._codes.pop(form.get("code", ""), None)
        if (
            begun is None
            or form["redirect_uri"] != begun["redirect_uri"]
            or create_s256_code_challenge(form["code_verifier"]) != begun["code_challenge"]
        ):
            return Answer(400, {"error": "invalid_grant"})
        self.tokens.append(self.token(nonce=begun["nonce"]))
        return Answer(
            200, {"access_token": secrets.token_urlsafe(8), "token_type": "Bearer", "expires_in": 300, "id_token": self.tokens[-1]}
        )


@contextmanager
def serving_provider() -> Iterator[LocalProvider]:
    """Serves a provider on loopback."""
    provider = LocalProvider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET", {})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._answer("POST", {name: values[0] for name, values in parse_qs(content).items()})

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests' output is for the tests."""

        def _answer(self, method: str, form: dict[str, str]) -> None:
            said = provider.answer(method, self.path, form=form, authorization=self.headers.get("Authorization", ""))
            content = b"" if said.body is None else json.dumps(said.body).encode()
            self.send_response(said.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if said.location is not None:
                self.send_header("Location", said.location)
            self.end_headers()
            self.wfile.write(content)

    with serving_threads(Handler) as url:
        provider.issuer = url
        yield provider
