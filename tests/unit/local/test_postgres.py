"""The address of the embedded Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from quantry_local.postgres import Postgres


@pytest.mark.parametrize("name", ["plain", "with space", "a+b", "a&port=1", "50%off", "ümlaut", "a#b?c=d"])
def test_any_socket_folder_survives_in_the_address(name: str) -> None:
    folder = Path("/run") / name
    url = make_url(Postgres(Path("/data"), folder, None).database_url("quantry"))
    assert url.query == {"host": str(folder), "port": "5432"}
    assert url.database == "quantry"
