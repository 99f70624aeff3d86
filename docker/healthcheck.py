"""Whether a service answers: exits 0 where the address is answered with 200, 1 with a sentence if not. Standard library only.

python -I -S docker/healthcheck.py http://127.0.0.1:8001/healthz
"""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: healthcheck.py URL\n")
        return 1
    problem = trouble(arguments[0])
    if problem is not None:
        sys.stderr.write(f"{arguments[0]} {problem}\n")
        return 1
    return 0


def trouble(url: str) -> str | None:
    """Returns what is wrong; None where it answers. No proxy of the environment is asked, and no redirect followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        body = answer.read(1024)
    except (OSError, http.client.HTTPException) as error:
        return f"does not answer: {error}"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"answers {answer.status}: {body.decode('utf-8', 'replace')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
