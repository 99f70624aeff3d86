"""Forms with a file, however their bytes are cut, and forms that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from quantry_core.errors import InvalidInput
from quantry_registry.files.form import FORM_BYTES, MAX_FIELDS, MAX_MEMORY_BYTES, FileForm

CONTENT_TYPE = "multipart/form-data; boundary=xyz"
FILE = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
END = b"\r\n--xyz--\r\n"


def field(name: str, value: bytes) -> bytes:
    return b'--xyz\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


async def read(body: bytes, piece_bytes: int, content_type: str = CONTENT_TYPE) -> tuple[FileForm, bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece_bytes):
            yield body[start : start + piece_bytes]

    with FileForm(content_type) as form:
        await form.read(pieces())
        return form, b"".join([piece async for piece in form.pieces()])


@pytest.mark.parametrize("piece_bytes", [1, 3, 50, 10_000])
async def test_a_form_is_read_however_it_is_cut(piece_bytes: int) -> None:
    content = b'{"text": "one"}\r\n--xy\r\n--xyzz almost\n' * 3
    body = field("purpose", b"fine-tune") + FILE + content + b"\r\n" + field("note", "Größe".encode()) + b"--xyz--\r\n"
    form, found = await read(body, piece_bytes)
    assert found == content
    assert (form.filename, form.content_type) == ("a.jsonl", "application/jsonl")
    assert form.fields == {"purpose": "fine-tune", "note": "Größe"}


async def test_a_form_that_httpx_wrote_is_read() -> None:
    content = b"some words\n" * (MAX_MEMORY_BYTES // 5)
    request = httpx.Request("POST", "http://x", data={"purpose": "user_data"}, files={"file": ('Zwölf "Dinge".txt', content)})
    form, found = await read(request.read(), 65536, request.headers["content-type"])
    assert found == content
    assert form.filename == "Zwölf %22Dinge%22.txt"
    assert (form.content_type, form.fields) == ("text/plain", {"purpose": "user_data"})


async def test_a_file_under_another_name_is_no_file() -> None:
    form, found = await read(FILE.replace(b'"file"', b'"other"') + b"x" + END, 7)
    assert (form.filename, found, form.fields) == (None, b"", {"other": "x"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the form breaks off"),
        (FILE + b"half", "the form breaks off"),
        (FILE + b"whole\r\n--xyz\r\n", "the form breaks off"),
        (b"no form at all", "the form cannot be read"),
        (FILE + b"x\r\n" + FILE + b"y" + END, "more than one file"),
        (field("a", b"x" * (FORM_BYTES + 1)) + b"--xyz--\r\n", f"more than {FORM_BYTES} bytes beside its file"),
        (b"".join(field(f"f{number}", b"x") for number in range(MAX_FIELDS + 1)) + b"--xyz--\r\n", f"more than {MAX_FIELDS} fields"),
    ],
)
async def test_what_is_no_form_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await read(body, 100)


@pytest.mark.parametrize("content_type", [None, "", "application/json", "multipart/form-data", "multipart/form-data; boundary="])
def test_a_content_type_that_tells_of_no_form_is_refused(content_type: str | None) -> None:
    with pytest.raises(InvalidInput, match=r"multipart/form-data|boundary"):
        FileForm(content_type)


def test_a_boundary_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be read: Boundary"):
        FileForm("multipart/form-data; boundary=" + "x" * 1000)
