"""The names that the service answers to, and the pages whose scripts may ask it; HEAD, OPTIONS, and a slash at the end."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from app.api.openapi import operations
from app.api.origins import Doors
from app.configuration import read_settings
from app.core.errors import InvalidSettings
from app.settings import Settings
from tests.support.requests import Service, check_problem

PROTOCOLS = ["/v1/classify", "/models/tiny", "/predict", "/v2/models/tiny/infer"]


async def ask(service: Service, host: str, path: str = "/v1/models", method: str = "GET", **headers: str) -> httpx.Response:
    named = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"inputs": "good"} if method == "POST" else None
    return await service.client.request(method, path, headers=named, json=body)


# --- names


OWN = ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:8000", "127.8.9.1:1", "[::1]", "[::1]:8000"]
STRANGE = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0:8000", "192.168.1.7",
    "[::2]:8000", "[fe80::1]", "localhost@evil.example", "xlocalhost", "127.0.0.1evil", "evil.example#localhost",
    "[::1]evil.example", "[::1", "[::1]evil:8000",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
async def test_where_only_this_machine_reaches_it_it_answers_to_the_machines_own_names(service: Service, host: str) -> None:
    assert (await ask(service, host)).status_code == 200


@pytest.mark.parametrize("host", STRANGE)
async def test_to_another_name_it_says_nothing_but_that(service: Service, host: str) -> None:
    for path in ("/v1/models", "/", "/docs", "/openapi.json", "/static/favicon.svg", "/v1/nowhere", "/v2"):
        response = await ask(service, host, path)
        assert response.status_code == 421, path
        assert "HOOPER_ALLOWED_HOSTS" in response.text
        assert host not in response.text


@pytest.mark.parametrize("path", PROTOCOLS)
async def test_every_protocol_says_so_in_its_own_words(service: Service, path: str) -> None:
    response = await ask(service, "evil.example", path, "POST")
    assert response.status_code == 421
    assert "`Host`" in (response.json().get("detail") or response.json()["error"])


async def test_probes_and_metrics_come_by_any_name(service: Service) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"):
        assert (await ask(service, "10.1.2.3:8000", path)).status_code == 200
    for path in ("/metricsx", "/healthx", "/x/health/live", "/v1/models?/metrics"):
        assert (await ask(service, "10.1.2.3:8000", path)).status_code == 421


async def test_what_a_proxy_says_of_the_name_does_not_count(service: Service) -> None:
    forwarded = {"X_Forwarded_Host": "localhost", "Forwarded": "host=localhost"}
    assert (await ask(service, "evil.example", **forwarded)).status_code == 421
    assert (await ask(service, "localhost", X_Forwarded_Host="evil.example")).status_code == 200


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"published_host": "192.168.1.7"}, {"allowed_hosts": "*"}])
async def test_where_others_reach_it_it_answers_to_any_name_unless_some_are_given(start: Any, settings: Any) -> None:
    async with start(allow_no_keys=True, **settings) as service:
        for host in (*OWN, *STRANGE[:3]):
            assert (await ask(service, host)).status_code == 200


async def test_a_container_that_is_published_on_its_own_machine_is_as_if_it_listened_there(start: Any) -> None:
    async with start(host="0.0.0.0", published_host="127.0.0.1") as service:
        assert (await ask(service, "localhost:8000")).status_code == 200
        assert (await ask(service, "evil.example")).status_code == 421


async def test_names_that_are_given_are_the_only_ones(start: Any) -> None:
    async with start(host="0.0.0.0", allowed_hosts="Models.Example, *.inner.example,[2001:db8::1]") as service:
        for host in ("models.example", "models.example:8443", "a.inner.example", "a.b.inner.example:80", "[2001:db8::1]:80"):
            assert (await ask(service, host)).status_code == 200, host
        for host in (
            "localhost",
            "inner.example",
            "xinner.example",
            "a.models.example",
            "models.example.evil",
            "[2001:db8::2]",
        ):
            assert (await ask(service, host)).status_code == 421, host


async def test_behind_a_prefix_the_same_holds(start: Any) -> None:
    async with start(root_path="/hooper") as service:
        for path in ("/hooper/v1/models", "/v1/models", "/hooper", "/hooper/"):
            assert (await ask(service, "evil.example", path)).status_code == 421
        assert (await ask(service, "10.1.2.3", "/hooper/health/live")).status_code == 200
        assert (await ask(service, "localhost", "/hooper/v1/models")).status_code == 200


@pytest.mark.parametrize("value", ["https://a.example", "a.example/x", "a b", "*.*", "user@a"])
def test_a_name_that_is_none_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_ALLOWED_HOSTS", value)
    with pytest.raises(InvalidSettings, match="HOOPER_ALLOWED_HOSTS"):
        read_settings()


# --- pages


SAME = [
    ("localhost:8000", "http://localhost:8000"), ("localhost:8000", "HTTP://LOCALHOST:8000"), ("127.0.0.1", "http://127.0.0.1"),
    ("localhost", "https://localhost"), ("localhost:443", "https://localhost"), ("[::1]:8000", "http://[::1]:8000"),
]  # fmt: skip
OTHER = [
    ("localhost:8000", "http://localhost:3000"), ("localhost:8000", "http://localhost"), ("localhost", "http://localhost:8000"),
    ("localhost:8000", "http://evil.example"), ("localhost:8000", "null"), ("localhost:8000", "file://"), ("localhost", "x"),
    ("localhost:8000", "http://localhost:8000.evil.example"), ("localhost:8000", "http://evil.example/localhost:8000"),
    ("localhost", "chrome-extension://localhost"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "origin"), SAME)
async def test_the_services_own_pages_ask_it_whatever_scheme_a_proxy_made_of_theirs(
    service: Service, host: str, origin: str
) -> None:
    assert (await ask(service, host, "/v1/classify", "POST", Origin=origin)).status_code == 200


@pytest.mark.parametrize(("host", "origin"), OTHER)
async def test_other_pages_do_not(service: Service, host: str, origin: str) -> None:
    for path in PROTOCOLS:
        response = await ask(service, host, path, "POST", Origin=origin)
        assert response.status_code == 403
        assert "HOOPER_CORS_ORIGINS" in (response.json().get("detail") or response.json()["error"])
    assert "access-control-allow-origin" not in response.headers
    assert (await ask(service, host, Origin=origin)).status_code == 200  # which no page gets to read


async def test_behind_a_proxy_that_changes_the_name_the_browser_says_whose_page_it_is(service: Service) -> None:
    public = {"Origin": "https://models.example", "Sec_Fetch_Site": "same-origin"}
    assert (await ask(service, "localhost:8000", "/v1/classify", "POST", **public)).status_code == 200
    for site in ("same-site", "cross-site", "none", ""):
        response = await ask(service, "localhost:8000", "/v1/classify", "POST", **public | {"Sec_Fetch_Site": site})
        assert check_problem(response, 403, "forbidden_origin")


async def test_a_page_is_refused_before_its_key_is_looked_at(start: Any) -> None:
    async with start(api_key_hashes=hashlib.sha256(b"mine").hexdigest()) as service:
        response = await ask(service, "localhost", "/v1/classify", "POST", Origin="http://evil.example", X_API_Key="yours")
        assert check_problem(response, 403, "forbidden_origin")


PREFLIGHT = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type,x-priority"}


async def test_pages_that_are_allowed_ask_and_read(start: Any) -> None:
    async with start(cors_origins="https://App.example, http://localhost:3000") as service:
        for origin in ("https://app.example", "http://localhost:3000"):
            asked = await ask(service, "localhost", "/v1/classify", "OPTIONS", Origin=origin, **PREFLIGHT)
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == origin
            assert "Authorization" in asked.headers["access-control-allow-headers"]
            assert asked.headers["x-request-id"]
            for path in PROTOCOLS[:2]:
                answered = await ask(service, "localhost", path, "POST", Origin=origin)
                assert answered.status_code == 200
                assert answered.headers["access-control-allow-origin"] == origin
                assert "X-Request-Id" in answered.headers["access-control-expose-headers"]
                assert "Origin" in answered.headers["vary"]
        for path in PROTOCOLS:
            refused = await ask(service, "localhost", path, "POST", Origin="http://evil.example")
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers


async def test_a_preflight_needs_no_key_and_the_refusal_behind_it_can_be_read(start: Any) -> None:
    async with start(cors_origins="https://app.example", api_key_hashes=hashlib.sha256(b"mine").hexdigest()) as service:
        origin = {"Origin": "https://app.example"}
        assert (await ask(service, "localhost", "/v1/classify", "OPTIONS", **origin, **PREFLIGHT)).status_code == 200
        refused = await ask(service, "localhost", "/v1/classify", "POST", **origin)
        assert check_problem(refused, 401, "unauthorized")
        assert refused.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("settings", [{}, {"cors_origins": "https://app.example"}])
async def test_a_preflight_of_another_page_is_refused_in_words(start: Any, settings: Any) -> None:
    async with start(**settings) as service:
        response = await ask(service, "localhost", "/v1/classify", "OPTIONS", Origin="http://evil.example", **PREFLIGHT)
        assert check_problem(response, 403, "forbidden_origin")
        elsewhere = await ask(service, "evil.example", "/v1/classify", "OPTIONS", Origin="https://app.example", **PREFLIGHT)
        assert elsewhere.status_code == 421


async def test_all_pages_may_be_allowed(start: Any) -> None:
    async with start(cors_origins="*") as service:
        response = await ask(service, "localhost", "/v1/classify", "POST", Origin="null")
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "*")


def test_origins_are_compared_in_lower_case_as_browsers_send_them() -> None:
    assert Doors.of(Settings(cors_origins=("https://App.Example",))).origins == ("https://app.example",)


@pytest.mark.parametrize(
    "value", ["app.example", "https://app.example/", "https://app.example/x", "https://*.example", "https://"]
)
def test_an_origin_that_is_none_stops_the_start(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_CORS_ORIGINS", value)
    with pytest.raises(InvalidSettings, match="HOOPER_CORS_ORIGINS"):
        read_settings()


# --- HEAD, and a slash at the end


async def test_head_is_answered_wherever_get_is_with_the_same_headers_and_no_body(service: Service) -> None:
    paths = [path for path, methods in service.app.openapi()["paths"].items() if "get" in methods]
    named = [path.replace("{name}", "tiny").replace("{version}", "1") for path in paths]
    for path in (*named, "/", "/docs", "/openapi.json", "/static/favicon.svg", "/nowhere", "/v1/classify"):
        got = await service.client.get(path)
        head = await service.client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        changing = {"x-request-id", "content-length"} if path in ("/metrics", "/nowhere", "/v1/classify") else {"x-request-id"}
        left = [{name: value for name, value in entry.headers.items() if name not in changing} for entry in (got, head)]
        assert left[0] == left[1], path
    assert len(named) > 10
    assert not any("head" in operation for operation in service.app.openapi()["paths"].values())
    assert list(operations(service.app.openapi()))


async def test_head_asks_for_a_key_as_get_does(start: Any) -> None:
    async with start(api_key_hashes=hashlib.sha256(b"mine").hexdigest()) as service:
        assert (await service.client.head("/v1/models")).status_code == 401
        assert (await service.client.head("/v1/models", headers={"X-API-Key": "mine"})).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/hooper"])
async def test_a_slash_at_the_end_means_nothing(start: Any, prefix: str) -> None:
    async with start(root_path=prefix) as service:
        for path in ("/v1/models", "/v1/models/tiny", "/health/live", "/v2", "/v2/models/tiny", "/info", "/metrics"):
            assert (await service.client.get(f"{prefix}{path}/")).status_code == 200, path
        for path in ("/v1/classify", "/models/tiny", "/predict"):
            assert (await service.send(b'{"inputs": "good"}', path=f"{prefix}{path}/")).status_code == 200, path
        assert (await service.client.get(f"{prefix}/v1/models//")).status_code == 404


async def test_no_redirect_repeats_what_was_sent_as_host(start: Any) -> None:
    async with start(host="0.0.0.0", allow_no_keys=True, root_path="/hooper") as service:
        for path, location in (("/hooper/docs/", "../docs"), ("/docs/", "../docs"), ("/hooper", "./hooper/")):
            response = await ask(service, "evil.example", path)
            assert (response.status_code, response.headers["location"]) == (307, location)
        for path in ("//evil.example/", "/%2F%2Fevil.example/", "/evil.example//", "/v1/models/../"):
            response = await service.client.get(f"http://localhost{path}")
            assert response.status_code in (200, 404)
            assert "location" not in response.headers


async def test_a_slash_opens_nothing_without_a_key(start: Any) -> None:
    async with start(api_key_hashes=hashlib.sha256(b"mine").hexdigest(), root_path="/hooper") as service:
        for path in ("/v1/models/", "/hooper/v1/models/", "/v2/models/tiny/", "/info/"):
            assert (await service.client.get(path)).status_code == 401
        for path in ("/health/live/", "/docs/", "/v2/"):
            assert (await service.client.get(path)).status_code in (200, 307)
