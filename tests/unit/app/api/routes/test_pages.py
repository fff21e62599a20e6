"""The playground and the docs page: files of our own, under strict headers, whatever the prefix."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest

from app.api.routes.pages import STATIC
from tests.support.requests import Service

PAGES = ["/", "/docs"]
OUR_FILES = [path for path in sorted(STATIC.rglob("*")) if path.suffix in (".html", ".css", ".js", ".svg")]
OWN = [path for path in OUR_FILES if not path.name.startswith("swagger-ui")]
REFERENCE = re.compile(r"""(?:\b(?:href|src)=|^import .* from )"([^"]+)\"""", re.MULTILINE)


async def references(service: Service, page: str) -> set[str]:
    """Every address that a page, and the modules it loads, refer to, as the browser resolves it."""
    found: set[str] = set()
    unread = [page]
    while unread:
        here = unread.pop()
        text = (await service.client.get(here)).text
        addresses = {urljoin(here, match) for match in REFERENCE.findall(text)}
        unread += [address for address in addresses - found if address.endswith(".js") and "swagger" not in address]
        found |= addresses
    return found


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_refers_only_to_files_of_our_own_and_they_are_there(service: Service, page: str) -> None:
    found = await references(service, page)
    assert len(found) >= 5
    for address in found:
        assert address.startswith("/"), address
        assert (await service.client.get(address)).status_code == 200, address


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_files_name_no_other_host(path: Any) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")  # a namespace, never fetched
    assert not re.findall(r"""["'(\s](?:https?:)?//[a-z0-9][^"')\s]*""", text)


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix == ".html"], ids=lambda path: path.name)
def test_a_page_holds_no_script_and_no_style_within_it(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))


@pytest.mark.parametrize("address", [*PAGES, "/static/playground/main.js", "/static/swagger-ui.css"])
async def test_pages_and_their_files_carry_the_security_headers(service: Service, address: str) -> None:
    headers = (await service.client.get(address)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


async def test_a_file_that_has_not_changed_is_not_sent_again(service: Service) -> None:
    first = await service.client.get("/static/swagger-ui-bundle.js")
    again = await service.client.get("/static/swagger-ui-bundle.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_no_file_outside_of_the_folder_is_served(service: Service) -> None:
    for path in ("/static/../routes/pages.py", "/static/%2e%2e/routes/pages.py", "/static/missing.js"):
        assert (await service.client.get(path)).status_code == 404


@pytest.mark.parametrize("page", ["/hooper/", "/hooper/docs"])
async def test_behind_a_proxy_every_address_keeps_the_prefix(start: Any, page: str) -> None:
    async with start(root_path="/hooper/") as service:
        for address in await references(service, page):
            assert address.startswith("/hooper/"), address
            assert (await service.client.get(address)).status_code == 200, address
        assert (await service.client.get("/openapi.json")).json()["servers"] == [{"url": "/hooper"}]


async def test_the_prefix_without_its_slash_leads_to_the_playground(start: Any) -> None:
    async with start(root_path="/hooper") as service:
        response = await service.client.get("/hooper")
        assert response.status_code == 307
        assert response.headers["location"] == "./hooper/"


@pytest.mark.parametrize("prefix", ["", "/hooper"])
async def test_a_proxy_may_cut_the_prefix_off_or_not(start: Any, prefix: str) -> None:
    async with start(root_path="/hooper") as service:
        assert (await service.client.get(f"{prefix}/health/ready")).status_code == 200
        assert (await service.client.get(f"{prefix}/static/favicon.svg")).status_code == 200


async def test_the_front_page_is_the_playground(service: Service) -> None:
    response = await service.client.get("/")
    assert response.status_code == 200
    assert "<h1>Ask a model</h1>" in response.text
