"""`/docs`: Swagger UI, with everything it needs from this service, so that it works without the internet.

The wheel `fastapi-swagger` brings Swagger UI's files; the page is ours, because a Content-Security-Policy without
`unsafe-inline` scripts needs one without scripts inside. Addresses are relative: it also works behind a prefix.
"""

import html
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

_ASSETS: Final = Path(str(files("fastapi_swagger"))) / "resources"
_MEDIA_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
# The version is in the address of every asset: another version, another address.
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_PAGE_HEADERS: Final = {
    # Styles: Swagger UI sets style attributes. Images: its icons are data URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="{assets}/favicon-32x32.png">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; the document itself is <a href="openapi.json">openapi.json</a>.</noscript>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script src="{assets}/start.js"></script>
</body>
</html>
"""
# No validator: that one would send the document's address to somebody else. Nor is the token kept: it would
# outlive the tab in the browser's storage.
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null
});
"""


def install_docs_page(app: FastAPI) -> None:
    """Serve the page and its files."""
    # Our own file changes with the chassis, and the others with the wheel.
    assets = f"docs/{version('fastapi-swagger')}-{version('chassis')}"
    page = _PAGE.format(title=html.escape(app.title), assets=assets)
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @router.get(f"/{assets}/{{name}}")
    async def docs_asset(name: str) -> Response:
        if name == "start.js":
            return Response(_START, media_type="text/javascript", headers=_FOREVER)
        if name not in _MEDIA_TYPES:
            raise HTTPException(404)
        return FileResponse(_ASSETS / name, media_type=_MEDIA_TYPES[name], headers=_FOREVER)

    app.include_router(router)
