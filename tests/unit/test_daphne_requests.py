"""Of a body that is too long Daphne keeps what shows that it is."""

import io

import pytest
from daphne import http_protocol
from twisted.web.http_headers import Headers

import orderengine.asgi  # noqa: F401  (as a web process: it sets the bound)
from orderengine.daphne_requests import KEPT_BYTES


@pytest.mark.parametrize("chunks", [[10], [KEPT_BYTES - 1], [KEPT_BYTES * 9], [100_000] * 50])
def test_so_much_of_a_body_is_kept(chunks: list[int]) -> None:
    request = object.__new__(http_protocol.WebRequest)
    request.content = io.BytesIO()

    for size in chunks:
        request.handleContentChunk(b"x" * size)

    assert len(request.content.getvalue()) == min(sum(chunks), KEPT_BYTES)


def test_a_body_in_chunks_has_a_length_and_a_form_is_left_to_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = object.__new__(http_protocol.WebRequest)
    request.content = io.BytesIO()
    request.handleContentChunk(b"no form at all")
    request.requestHeaders = Headers(
        {"transfer-encoding": ["chunked"], "content-type": ["multipart/form-data; boundary=x"]}
    )
    processed: list[bytes] = []
    monkeypatch.setattr(http_protocol.WebRequest, "process", lambda it: processed.append(it.path))

    request.requestReceived(b"POST", b"/api/orders?limit=1", b"HTTP/1.1")

    assert processed == [b"/api/orders"]
    assert (request.method, request.uri) == (b"POST", b"/api/orders?limit=1")
    assert request.requestHeaders.getRawHeaders("content-length") == ["14"]
    assert not request.requestHeaders.hasHeader("transfer-encoding")
