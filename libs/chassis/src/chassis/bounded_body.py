"""Bodies of answers from elsewhere, read only as far as an honest one goes."""

import httpx2


async def bounded_body(response: httpx2.Response, most: int, name: str) -> bytes:
    """Read the body of a streamed answer that is good.

    Args:
        response: Opened by `stream`.
        most: Bytes it may have.
        name: What the body is, for the error.

    Raises:
        httpx2.HTTPStatusError: Its status is an error.
        ValueError: It is larger.
    """
    response.raise_for_status()
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise ValueError(f"the {name} is too large")
    return body
