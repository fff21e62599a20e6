"""Keys: who may ask, and who may change what is loaded."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from app.api.auth import matching
from app.api.openapi import operations
from tests.support.requests import Caller, Service, check_problem


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


USER, ADMIN = hashed("user"), hashed("admin")
KEYED = [("POST", "/v1/classify"), ("GET", "/v1/models"), ("GET", "/v1/models/tiny")]
FOREIGN = [
    ("POST", "/models/tiny"), ("POST", "/predict"), ("GET", "/info"), ("POST", "/v2/models/tiny/infer"),
    ("POST", "/v2/models/tiny/versions/1/infer"), ("GET", "/v2/models/tiny"), ("GET", "/v2/models/tiny/versions/1"),
    ("GET", "/v2/models/tiny/ready"), ("GET", "/v2/models/tiny/versions/1/ready"), ("GET", "/v2/models/tiny/config"),
]  # fmt: skip
OPEN = ["/v2", "/v2/health/live", "/v2/health/ready", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"]
WRONG: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic user"},
    {"Authorization": "user"},
    {"X-API-Key": "wrong"},
    {"X-API-Key": USER},
    {"X-API-Key": ""},
]


async def ask(service: Service, method: str, path: str, headers: dict[str, str]) -> Any:
    return await service.client.request(method, path, headers=headers, json={"inputs": "good"} if method == "POST" else None)


@pytest.mark.parametrize("headers", WRONG, ids=str)
async def test_without_a_known_key_nobody_is_answered(start: Any, headers: dict[str, str]) -> None:
    async with start(api_key_hashes=(USER,)) as service:
        for method, path in KEYED:
            response = await ask(service, method, path, headers)
            assert "key is needed" in check_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), FOREIGN)
async def test_routes_of_other_protocols_want_a_key_too_and_say_so_in_their_own_words(
    start: Any, method: str, path: str
) -> None:
    async with start(api_key_hashes=(USER,)) as service:
        refused = await ask(service, method, path, {})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "key is needed" in refused.json()["error"]
        assert (await ask(service, method, path, {"Authorization": "Bearer user"})).status_code in (200, 422)


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer user"}, {"authorization": "bearer user"}, {"X-API-Key": "user"}])
async def test_with_a_key_in_either_header_everything_is_answered(start: Any, headers: dict[str, str]) -> None:
    async with start(api_key_hashes=(hashed("other"), USER)) as service:
        for method, path in KEYED:
            assert (await ask(service, method, path, headers)).status_code == 200


async def test_probes_metrics_and_docs_need_no_key(start: Any) -> None:
    async with start(api_key_hashes=(USER,)) as service:
        for path in OPEN:
            assert (await service.client.get(path)).status_code == 200


async def test_an_admin_key_opens_everything_and_a_user_key_loads_nothing(start: Any) -> None:
    async with start(api_key_hashes=(USER,), admin_key_hashes=(ADMIN,)) as service:
        admin, user = {"Authorization": "Bearer admin"}, {"Authorization": "Bearer user"}
        for method, path in KEYED:
            assert (await ask(service, method, path, admin)).status_code == 200
        for action in ("load", "unload"):
            refused = await service.client.post(f"/v1/models/tiny/{action}", headers=user)
            assert "admin key" in check_problem(refused, 401, "unauthorized")
        assert (await service.client.post("/v1/models/tiny/load", headers=admin)).status_code == 200


async def test_where_no_admin_key_is_configured_nobody_loads(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer admin"}, {"X-API-Key": ""}):
        refused = await service.client.post("/v1/models/tiny/unload", headers=headers)
        assert "HOOPER_ADMIN_KEY_HASHES" in check_problem(refused, 401, "unauthorized")


async def test_every_path_that_tells_of_401_asks_for_a_key_before_any_body_and_no_other_does(start: Any) -> None:
    async with start(api_key_hashes=(USER,), admin_key_hashes=(ADMIN,)) as service:
        for path, methods in service.app.openapi()["paths"].items():
            for method, operation in methods.items():
                if path == "/translate":  # a short body may bring the key: see the protocol's own tests
                    continue
                caller = Caller(service.app, method.upper(), path, **{"content-length": "1000"})
                if "401" in operation["responses"]:
                    await caller.task  # nothing was ever sent
                    assert caller.status == 401, path
                    assert (b"connection", b"close") not in caller.sent[0]["headers"]
                elif method == "get":
                    await caller.task
                    assert caller.status == 200, path
        assert len(list(operations(service.app.openapi()))) > 20


async def test_a_path_that_nobody_knows_asks_for_a_key_too(start: Any) -> None:
    async with start(api_key_hashes=(USER,)) as service:
        for path in ("/v1/new", "//health/live", "/v1/models/tiny/load\n", "/health/live\n", "/docs\n"):
            assert (await service.client.request("GET", path.replace("\n", "%0A"))).status_code in (401, 404)
            caller = Caller(service.app, "GET", path)
            await caller.task
            assert caller.status == 401


async def test_no_spelling_of_a_path_loads_with_a_users_key(start: Any) -> None:
    async with start(api_key_hashes=(USER,), admin_key_hashes=(ADMIN,)) as service:
        for path in ("/v1/models/tiny/load", "/v1/models/tiny/load\n", "//v1/models/tiny/load", "/v1/models/ti\nny/load"):
            caller = Caller(service.app, "POST", path, **{"x-api-key": "user", "content-length": "0"})
            caller.send(b"")
            await caller.task
            assert caller.status in (401, 404), path


@pytest.mark.parametrize("header", ["Bearer user ", "Bearer  user", " bearer user\t"])
async def test_blanks_around_a_key_are_not_part_of_it(start: Any, header: str) -> None:
    async with start(api_key_hashes=(USER,)) as service:
        for named in ({"authorization": header}, {"x-api-key": header.strip()[6:] + " "}):
            caller = Caller(service.app, "GET", "/v1/models", **named)
            await caller.task
            assert caller.status == 200


def test_the_empty_key_is_known_only_if_its_hash_is_listed() -> None:
    assert matching("", (USER,)) is None
    assert matching("", ()) is None
    assert matching("user", (ADMIN, USER)) == USER
    assert matching("us\udce9r", (USER,)) is None


# --- how often a key may ask


async def test_a_key_that_asks_too_often_is_turned_away_for_a_while_and_others_are_not(start: Any) -> None:
    async with start(api_key_hashes=(USER, hashed("other")), key_requests_per_minute=2) as service:
        for _ in range(2):
            assert (await ask(service, "GET", "/v1/models", {"X-API-Key": "user"})).status_code == 200
        refused = await ask(service, "POST", "/v1/classify", {"Authorization": "Bearer user"})
        assert "2 requests a minute" in check_problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert (await ask(service, "POST", "/v1/classify", {"X-API-Key": "other"})).status_code == 200
        assert (await service.client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("path", ["/models/tiny", "/predict", "/v2/models/tiny/infer"])
async def test_other_protocols_tell_it_in_their_own_words(start: Any, path: str) -> None:
    async with start(api_key_hashes=(USER,), key_requests_per_minute=1) as service:
        await ask(service, "POST", path, {"X-API-Key": "user"})
        refused = await ask(service, "POST", path, {"X-API-Key": "user"})
        assert refused.status_code == 429
        assert "requests a minute" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) >= 1


async def test_an_admin_key_is_counted_too_and_a_wrong_key_is_not(start: Any) -> None:
    async with start(admin_key_hashes=(ADMIN,), key_requests_per_minute=1) as service:
        for _ in range(3):
            assert (await service.client.post("/v1/models/tiny/load", headers={"X-API-Key": "wrong"})).status_code == 401
        admin = {"X-API-Key": "admin"}
        assert (await service.client.post("/v1/models/tiny/load", headers=admin)).status_code == 200
        assert (await service.client.post("/v1/models/tiny/load", headers=admin)).status_code == 429
        assert list(service.live.key_rates._buckets._buckets) == [ADMIN]


async def test_every_listed_hash_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr("app.api.auth.hmac.compare_digest", lambda given, known: compared.append(known) or given == known)
    assert matching("user", (USER, ADMIN, hashed("other"))) == USER
    assert compared == [USER, ADMIN, hashed("other")]
