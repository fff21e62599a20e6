"""The service behind Ray Serve: the application of `app.main`, once in each replica. Needs the extra `ray`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, MutableMapping
from typing import Any

import ray
from ray import serve

from app.configuration import read_settings
from app.core.errors import HooperError, InvalidSettings, Unavailable
from app.main import create_app
from app.observability.logging import set_up_logging
from app.settings import Settings

NAME = "Hooper"
REQUEST_ID = b"x-request-id"
AUTOSCALING = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 32}
"""As many callers as fill an engine's batches; a file in `deploy/ray` may say otherwise."""


class Replica:
    """One engine per model in a process of its own. Invariant: it gets no request before every model was tried."""

    def __init__(self, settings: Settings) -> None:
        set_up_logging(settings.log_level, "json" if settings.log_format == "auto" else settings.log_format)
        self._failures: list[HooperError] = []
        self._app = create_app(with_threads(settings, assigned_cores()), self._failures.append)
        self._app.add_middleware(OneRequestId)

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray runs; it keeps the application's lifespan too, which ends after the last request."""
        return self._app

    async def check_health(self) -> None:
        """Pass when every engine would answer. Ray replaces a replica that fails three times in a row.

        Ray checks first before it sends any request, and waits: loading takes place there.

        Raises:
            SetupError: no model can be loaded; the deployment fails with this sentence.
            Unavailable: an engine is down, or a model that the settings name could not be loaded.
        """
        await asyncio.shield(self._app.state.loading)  # a check that Ray gives up must not end the loading with it
        if self._failures:
            raise self._failures[0]
        registry = self._app.state.hooper.registry
        if registry.unmet_reason:
            raise Unavailable(registry.unmet_reason)
        down = [deployment.manifest.name for deployment in registry.deployments if not deployment.is_alive]
        if down:
            raise Unavailable(f"the engine of {', '.join(down)} is down")


class OneRequestId:
    """Takes our `X-Request-Id` off an answer that Ray's proxy will put the same one on."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        coming = [value for name, value in scope.get("headers", ()) if name.lower() == REQUEST_ID][:1]

        async def send_once(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, value) for name, value in message["headers"] if name != REQUEST_ID or [value] != coming
                ]
            await send(message)

        await self._app(scope, receive, send_once)


def build(options: Mapping[str, Any]) -> serve.Application:
    """The application for `serve run app.ray_serve:build` and for `import_path` of a configuration.

    Args:
        options: settings by name, such as `models`, over those of the environment.

    Raises:
        InvalidSettings: one is unknown, nonsense, or means nothing on several machines.
    """
    settings = read_settings(options)
    check_fit_for_many(settings)
    if not settings.allowed_hosts:  # Ray's proxies listen, so that `host` says nothing of who reaches them
        settings = settings.model_copy(update={"allowed_hosts": ("*",)})
    deployment = serve.deployment(
        name=NAME,
        # a batch in the engine and one that waits; Ray's proxies ask another node only when those of their own are full
        max_ongoing_requests=2 * settings.max_batch_rows,
        max_queued_requests=settings.max_waiting_rows,
        autoscaling_config=AUTOSCALING,
        ray_actor_options={"num_cpus": 1},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=settings.drain_s + 1,
    )
    return deployment(serve.ingress()(Replica)).bind(settings)


def check_fit_for_many(settings: Settings) -> None:
    """
    Raises:
        InvalidSettings: a setting means nothing where several processes on several machines answer.
    """
    if settings.admin_key_hashes:
        raise InvalidSettings(
            "HOOPER_ADMIN_KEY_HASHES cannot be used under Ray Serve: loading a model would reach one replica of many; "
            "change `serve` in the configuration and deploy it again"
        )
    if settings.ssl_certfile or settings.ssl_keyfile:
        raise InvalidSettings("HOOPER_SSL_CERTFILE cannot be used under Ray Serve, whose proxies listen; end TLS before them")
    if settings.front_ends > 1:
        raise InvalidSettings(
            "HOOPER_FRONT_ENDS cannot be used under Ray Serve, whose proxies are the front ends; leave it at 1"
        )
    if settings.state and not settings.state.startswith("/"):
        raise InvalidSettings(f"HOOPER_STATE={settings.state} must be an absolute path under Ray Serve, as HOOPER_MODELS")
    if not settings.models.is_absolute():
        raise InvalidSettings(
            f"HOOPER_MODELS={settings.models} must be an absolute path under Ray Serve: each replica has a folder of its own"
        )


def with_threads(settings: Settings, cores: float) -> Settings:
    """The settings with as many engine threads as the replica was given cores, where none are set: beside other replicas,
    all cores of the machine are too many."""
    return settings if settings.engine_threads else settings.model_copy(update={"engine_threads": max(1, math.ceil(cores))})


def assigned_cores() -> float:
    """What Ray has set aside for this replica; 0 where it has not been told."""
    assigned: float = ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)
    return assigned
