"""Manifest and options to a live Deployment: the only factory. Warm-up and golden requests live here."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from app.batching.admission import QueueLimit
from app.batching.engine import Engine
from app.batching.policy import Budget
from app.batching.results import (
    BatchFailed,
    BatchRan,
    DropReason,
    Event,
    EventListener,
    PromptsRead,
    RowsDropped,
    SubmissionResult,
    TokensGenerated,
)
from app.batching.scheduler import Scheduler
from app.batching.watchdog import Watchdog
from app.core.artefact import Artefact
from app.core.errors import (
    EngineFailed,
    EngineLost,
    EngineStalled,
    HooperError,
    InvalidArtefact,
    OutOfMemory,
    ProviderUnavailable,
    SetupError,
    Unavailable,
)
from app.core.manifest import Decoder, Manifest
from app.core.memory import available_bytes, give_back_freed
from app.core.sequences import Batch
from app.core.types import RowOutput
from app.observability.metrics import Metrics
from app.runtime.decoder_session import DecoderFactory, open_decoder
from app.runtime.encoder_engine import EncoderEngine, EngineSet, open_engines
from app.runtime.generation_engine import GenerationEngine
from app.runtime.kv_cache import num_cache_rows
from app.runtime.layout import Limits
from app.runtime.onnx_session import SessionFactory, open_session
from app.runtime.providers import (
    DeviceChoice,
    PrecisionChoice,
    Provider,
    available_cores,
    choices_of_auto,
    choose_provider,
    for_decoder,
    for_model,
    integer_precisions,
    untried,
)
from app.serving.deployment import Deployment, Timings, num_rows_of, rows_of
from app.serving.drift import Drift
from app.settings import Settings
from app.tasks.base import Encoded, Generative, Task
from app.tasks.golden_tokens import written_in
from app.tasks.registry import Tasks, build_task, installed_tasks
from app.tasks.tokenizer import Tokenizer

MAX_EXAMPLES, EXAMPLE_CHARACTERS = 4, 4000
"""Golden requests that a model is shown with, and how long they may be."""
GOLDEN_TOLERANCE = {"fp32": 0.02, "bf16": 0.1, "fp16": 0.05, "int8": 0.1, "int7": 0.1, "int4": 0.1}
"""How far a golden answer's scores may lie from those at publishing."""
NEAR_TIE = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05, "int8": 0.25, "int7": 0.25, "int4": 0.25}
"""Two tokens whose scores differ by less may change places: what is written behind them is not compared with golden answers."""

COMPILING = 10
"""So many times as long may a run take on TensorRT, which compiles the graph within the first run of each shape."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the settings say about loading a model."""

    device: DeviceChoice
    num_threads: int
    max_batch_tokens: int
    max_batch_rows: int
    queue: QueueLimit
    engine_run_s: float = 60.0
    """Seconds that one batch may take."""
    precision: PrecisionChoice = "auto"
    num_streams: int = 0
    """Batches that the CPU computes at the same time; 0: see `open_engines`."""
    cuda_graphs: bool = False
    share_weights: bool = False
    cache_bytes: int = 0
    """That sequences may take which are being written; 0: see `num_cache_rows`."""
    prefix_cache: bool = True
    """Whether sequences with the same beginning read it once."""
    front_ends: int = 1
    tasks: Tasks = field(default_factory=installed_tasks)

    @classmethod
    def from_settings(cls, settings: Settings, queue: QueueLimit | None = None) -> LoadOptions:
        """What the settings say; `queue` takes the place of their limit of what may wait."""
        return cls(
            device=settings.device,
            num_threads=settings.engine_threads,
            max_batch_tokens=settings.max_batch_tokens,
            max_batch_rows=settings.max_batch_rows,
            queue=queue or QueueLimit(settings.max_waiting_rows, settings.max_waiting_tokens),
            engine_run_s=settings.engine_run_s,
            precision=settings.precision,
            num_streams=settings.engine_streams,
            cuda_graphs=settings.cuda_graphs,
            share_weights=settings.share_weights,
            cache_bytes=settings.cache_bytes,
            prefix_cache=settings.prefix_cache,
            front_ends=settings.front_ends,
            tasks=installed_tasks(settings.tasks),
        )


@dataclass(frozen=True, slots=True)
class Factories:
    """What opens graphs."""

    session: SessionFactory = open_session
    decoder: DecoderFactory = open_decoder


async def load(
    artefact: Artefact,
    options: LoadOptions,
    metrics: Metrics,
    session_factory: SessionFactory = open_session,
    decoder_factory: DecoderFactory = open_decoder,
) -> Deployment:
    """Build a deployment, warm its engine up, and replay the golden requests.

    Agreement in fp16 was measured on a processor: where this device cannot run it or answers otherwise, the model is loaded in
    fp32 and says why. With the device `auto`, one that cannot run the model leaves it to the next, and the reason says so.

    Args:
        decoder_factory: what opens that of its decoder, where it has one.

    Raises:
        InvalidSettings: it writes, and there is no room for its cache.
        InvalidArtefact: the artefact cannot be run, or its golden answers do not come back.
        ProviderUnavailable: the wished device is not there, or does not run the model.
    """
    manifest = artefact.manifest
    if manifest.task not in options.tasks:
        raise InvalidArtefact(f"{artefact.id} is for {manifest.task}, which this version cannot serve")
    options = replace(options, max_batch_tokens=max(options.max_batch_tokens, manifest.max_tokens))
    factories = Factories(session_factory, decoder_factory)
    deployment = await _deployed_on_first(artefact, _providers(manifest, options), options, metrics, factories)
    await asyncio.to_thread(give_back_freed)
    logger.info("loaded %s", artefact.id, extra=describe_provider(deployment.provider))
    if faster := untried(choose_provider(deployment.provider.device), manifest, integer_precisions(), options.precision):
        logger.info("%s", faster)
    return deployment


def _providers(manifest: Manifest, options: LoadOptions) -> list[Provider]:
    """Those on which a model is tried, in their order."""
    first = choose_provider(options.device)
    choices = choices_of_auto(first, manifest) if options.device == "auto" else [first]
    providers = [for_model(choice, manifest, integer_precisions(), options.precision) for choice in choices]
    if options.cuda_graphs:
        providers = [providers[0].capturing()]
    if options.share_weights:
        providers = [replace(provider, shares_weights=provider.device == "cpu") for provider in providers]
    limits = Limits(manifest.max_tokens, options.max_batch_tokens, options.max_batch_rows)
    return [replace(provider, limits=limits) for provider in providers]


def describe_provider(provider: Provider) -> dict[str, str]:
    return {"device": provider.device, "precision": provider.precision, "reason": provider.reason}


async def _deployed_on_first(
    artefact: Artefact, providers: Sequence[Provider], options: LoadOptions, metrics: Metrics, factories: Factories
) -> Deployment:
    """On the first of the providers that runs the model and answers as published; what is in fp16 is tried in fp32, too."""
    remaining = list(providers)
    while True:
        provider = remaining.pop(0)
        try:
            return await _deployed(artefact, provider, options, metrics, factories)
        except (SetupError, Unavailable) as error:
            if provider.precision == "fp16":
                logger.warning(
                    "%s fails in fp16 on this device and is loaded in fp32", artefact.id, extra={"reason": error.detail}
                )
                remaining.insert(0, provider.in_fp32(f"{provider.reason}; in fp32, since fp16 failed here: {error.detail}"))
            elif remaining:
                later = remaining[0]
                logger.warning(
                    "%s fails on %s and is loaded on %s",
                    artefact.id,
                    provider.device,
                    later.device,
                    extra={"reason": error.detail},
                )
                why = f"{provider.device} left out: it failed here ({error.detail})"
                remaining = [replace(following, reason=f"{why}; {following.reason}") for following in remaining]
            elif isinstance(error, ProviderUnavailable):
                raise ProviderUnavailable(
                    f"{artefact.id} cannot be served with HOOPER_DEVICE={options.device}: {error.detail}"
                ) from error
            else:
                raise


async def _deployed(
    artefact: Artefact, provider: Provider, options: LoadOptions, metrics: Metrics, factories: Factories
) -> Deployment:
    manifest = artefact.manifest
    engines, task, tokenizers = await asyncio.to_thread(_build, artefact, provider, options, factories)
    budget = Budget.for_tensors(options.max_batch_tokens, options.max_batch_rows, manifest.graph.layout)
    run_s = options.engine_run_s * (COMPILING if provider.device == "tensorrt" else 1)
    exclusive = engines if isinstance(engines, GenerationEngine) else engines.exclusive
    others: Sequence[Engine] = () if isinstance(engines, GenerationEngine) else engines.parallel
    watched, parallel = Watchdog(exclusive, run_s), [Watchdog(engine, run_s) for engine in others]
    slots = engines.slots if isinstance(engines, GenerationEngine) else None
    scheduler = Scheduler(watched, budget, options.queue, _observer(metrics, manifest.name), parallel, slots)
    definitions = [tokenizer.definition for tokenizer in tokenizers]
    deployment = Deployment(manifest, options.tasks[manifest.task], task, engines, scheduler, metrics, definitions)
    try:
        await _replay_golden(artefact, deployment, [watched, *parallel] if parallel else [])
    except BaseException:
        await deployment.aclose(0)
        raise
    unknown_id = await asyncio.to_thread(tokenizers[0].unknown_id)
    deployment.watch(Drift(manifest, task, unknown_id, metrics))  # now: the golden requests are nobody's
    return deployment


def _build(
    artefact: Artefact, provider: Provider, options: LoadOptions, factories: Factories
) -> tuple[EngineSet | GenerationEngine, Task[Any, Any, Any], list[Tokenizer]]:
    manifest = artefact.manifest
    tokenizers, decoder = [Tokenizer.from_file(artefact.folder / manifest.tokenizer, manifest.max_tokens)], manifest.decoder
    if decoder is not None and decoder.tokenizer:
        tokenizers.append(Tokenizer.from_file(artefact.folder / decoder.tokenizer, decoder.max_length))
    try:
        task = build_task(options.tasks, manifest, tokenizers)
    except InvalidArtefact as error:
        raise InvalidArtefact(f"{artefact.id}: {error.detail}") from error
    graph_file = artefact.folder / manifest.graph.file_for(provider.precision)
    if decoder is not None:
        encoder = None
        if decoder.has_encoder:
            encoder = EncoderEngine(graph_file, manifest.graph, provider, options.num_threads, factories.session)
        return _writing(artefact, encoder, decoder, provider, options, factories.decoder), task, tokenizers
    engines = open_engines(graph_file, manifest.graph, provider, options.num_threads, options.num_streams, factories.session)
    return engines, task, tokenizers


def _writing(
    artefact: Artefact,
    encoder: EncoderEngine | None,
    decoder: Decoder,
    provider: Provider,
    options: LoadOptions,
    decoder_factory: DecoderFactory,
) -> GenerationEngine:
    manifest, num_threads = artefact.manifest, options.num_threads or available_cores()
    provider = for_decoder(provider, manifest, options.precision)
    file = artefact.folder / decoder.file_for(provider.precision)
    session = decoder_factory(file, decoder, provider, num_threads)
    num_rows = num_cache_rows(
        decoder, manifest.max_tokens, options.max_batch_rows, options.cache_bytes, available_bytes()
    )  # now that both graphs are in memory
    return GenerationEngine(manifest, encoder, file, session, provider, num_rows, num_threads, options.prefix_cache)


async def _replay_golden(artefact: Artefact, deployment: Deployment, engines: Sequence[Engine]) -> None:
    """Ask what was asked when the model was published: it warms the engine up and shows that it still answers alike.

    Where there are several `engines`, each is asked besides: it depends on what else waits which of them the scheduler takes.
    """
    spec = deployment.spec
    path = artefact.folder / artefact.manifest.golden
    try:
        golden = json.loads(path.read_text(encoding="utf-8"))
        items = [spec.item(**request["item"]) for request in golden]
        expected = [request["answer"] for request in golden]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidArtefact(f"{path} cannot be read: {error}") from error
    if not items:
        raise InvalidArtefact(f"{path} holds no golden request")
    deployment.examples = [request["item"] for request in golden if len(json.dumps(request["item"])) <= EXAMPLE_CHARACTERS][
        :MAX_EXAMPLES
    ]
    tolerance = _golden_tolerance(deployment)
    began = time.monotonic()
    task = deployment.task
    if deployment.decoder_provider is not None:
        expected = [written_in(deployment.decoder_provider.precision, answer) for answer in expected]
    asked = task.golden_options() if isinstance(task, Generative) else spec.options()
    encoded = await deployment.encode(items, asked)
    tokenize_s = time.monotonic() - began
    rows, sampling = rows_of(encoded), deployment.sampling(num_rows_of(encoded), asked)
    ran = await deployment.scheduler.submit(rows, sampling=sampling) if rows else SubmissionResult([], 0.0, 0.0)
    deployment.measure([], Timings(tokenize_s, ran.queue_s, ran.inference_s))
    runs = [ran.outputs]
    runs += [[(await engine.forward(Batch.of_rows([row]))).outputs[0] for row in rows] for engine in engines]
    for outputs in runs:
        remaining = iter(outputs)
        for number, (item, answer) in enumerate(zip(encoded, expected, strict=True)):
            of_item = [next(remaining) for _ in item.rows] if isinstance(item, Encoded) else []
            description = f"{artefact.id}: golden request {number}"
            await asyncio.to_thread(_compare, description, deployment.task, item, of_item, answer, tolerance)


def _golden_tolerance(deployment: Deployment) -> float:
    """Of scores; of models that write the difference of two tokens' scores that counts as a tie."""
    decoder = deployment.decoder_provider
    if decoder is None:
        return GOLDEN_TOLERANCE[deployment.provider.precision]
    return max(NEAR_TIE[provider.precision] for provider in (deployment.provider, decoder))


def _compare(
    description: str,
    task: Task[Any, Any, Any],
    encoded: Encoded | HooperError,
    outputs: Sequence[RowOutput | HooperError],
    expected: Any,
    tolerance: float,
) -> None:
    errors = [part for part in (encoded, *outputs) if isinstance(part, HooperError)]
    if errors or isinstance(encoded, HooperError):
        raise InvalidArtefact(f"{description} failed: {errors[0].detail}")
    good = [output for output in outputs if not isinstance(output, HooperError)]
    try:
        difference = task.golden_difference(encoded, good, expected, tolerance)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InvalidArtefact(f"{description} cannot be compared with the published answer: {type(error).__name__}") from error
    if difference:
        raise InvalidArtefact(f"{description} is answered differently than when it was published: {difference}")


def _observer(metrics: Metrics, model: str) -> EventListener:
    rows = metrics.batch_rows.labels(model)
    tokens = metrics.batch_tokens.labels(model)
    padding = metrics.padding_ratio.labels(model)
    seconds = metrics.inference_seconds.labels(model)
    _count_from_zero(metrics, model)

    def observe(event: Event) -> None:
        match event:
            case BatchRan():
                rows.observe(event.num_rows)
                if event.phase != "decode":  # which reads a token of each row, and pads nothing
                    tokens.observe(event.num_tokens)
                    padding.observe(max(0.0, 1 - event.num_tokens / event.num_computed_tokens))  # of rows to continue, a piece
                seconds.observe(event.inference_s)
            case TokensGenerated():
                metrics.generated_tokens.labels(model).inc(event.num_tokens)
                for seconds_waited in event.first_s:
                    metrics.first_token_seconds.labels(model).observe(seconds_waited)
                for seconds_waited in event.between_s:
                    metrics.between_tokens_seconds.labels(model).observe(seconds_waited)
            case PromptsRead():
                metrics.prompt_tokens.labels(model, "read").inc(event.num_read)
                metrics.prompt_tokens.labels(model, "reused").inc(event.num_reused)
                metrics.prefix_cache_evictions.labels(model).inc(event.num_evicted)
            case BatchFailed():
                metrics.engine_failures.labels(model, event.error.type).inc()
            case RowsDropped():
                metrics.dropped_rows.labels(model, event.reason).inc(event.num_rows)

    return observe


def _count_from_zero(metrics: Metrics, model: str) -> None:
    """Of a counter that appears with its first event Prometheus tells no rate, and that event is lost on every alert."""
    for kind in (EngineFailed, OutOfMemory, EngineStalled, EngineLost):
        metrics.engine_failures.labels(model, kind.type)
    for reason in get_args(DropReason):
        metrics.dropped_rows.labels(model, reason)
    metrics.engines_lost.labels(model)
