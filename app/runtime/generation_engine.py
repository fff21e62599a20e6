"""GenerationEngine: the steps of a decoder over one cache, and the encoder before it, if any, on a thread of their own."""

from __future__ import annotations

import logging
import time
from collections import abc, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from app.core.errors import EngineFailed, EngineLost, HooperError, InvalidArtefact, OutOfMemory
from app.core.manifest import Decoder, Manifest
from app.core.sequences import Batch, Phase, SamplingParams, Sequence, StepOutput
from app.core.types import Array, Ints, Row, RowOutput
from app.runtime import prompts
from app.runtime.beam_search import BeamSearch
from app.runtime.decoder_session import BoundSession, DecoderSession
from app.runtime.encoder_engine import CLOSE_S, EncoderEngine, is_out_of_memory
from app.runtime.kv_cache import CacheSlots, KvCache
from app.runtime.onnx_session import RunOptions
from app.runtime.prompts import ContinuedRow, Reading, read_prompts
from app.runtime.providers import Provider
from app.runtime.sampling import TokenSampler, Written
from app.runtime.thread import EngineThread

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Chooses the tokens of one sequence."""

    @property
    def num_rows(self) -> int:
        """Of the cache, from its first token on."""

    def write(self, logits: Array) -> Written: ...


@dataclass(eq=False, slots=True)
class Generation:
    """A sequence that is being written."""

    slot: int
    writer: Writer
    next_token_ids: abc.Sequence[int]
    """What each of its rows reads in the next step."""
    prompt: ContinuedRow | None = None
    """Its row, where that is continued."""

    @property
    def is_reading(self) -> bool:
        return self.prompt is not None and self.prompt.num_unread > 0


class GenerationEngine:
    """Writes sequences: `prefill` encodes their sources and takes the decoder's first step, `decode` takes one more.

    Without an encoder a sequence goes on from its own row, which the decoder reads: `PROMPT_TOKENS` in each step, whichever
    phase it is, one sequence after the other. What is written already takes its step beside that. A beginning that was read
    before is copied in place of being read, where that is wanted; see `PrefixCache`.

    Satisfies `app.batching.engine.Engine`. A sequence's tokens depend on its own row and sampling alone.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: EncoderEngine | None,
        decoder_file: Path,
        decoder: BoundSession,
        decoder_provider: Provider,
        num_cache_rows: int,
        num_threads: int = 0,
        keeps_prefixes: bool = False,
    ) -> None:
        """
        Args:
            encoder: of the manifest's graph; it is run on this engine's thread, and closed with it. None: there is none.
            decoder_file: the decoder's graph, for messages.
            num_cache_rows: sequences, or beams of them, that may be written at the same time.
            num_threads: of the decoder, where it has no encoder.
            keeps_prefixes: whether rows that are continued share what is read of their beginnings.

        Raises:
            InvalidArtefact: a graph is not as the manifest says.
        """
        self._decoder = _decoder_of(manifest, encoder is not None)
        self._encoder, self.decoder_provider = encoder, decoder_provider
        self.num_threads = encoder.num_threads if encoder is not None else num_threads
        self.slots = CacheSlots(num_cache_rows, self._decoder.max_length, continues_rows=encoder is None)
        """Which rows of the cache are spoken for."""
        self._keeps_prefixes = keeps_prefixes and encoder is None
        page_tokens = prompts.PROMPT_TOKENS if self._keeps_prefixes else 0
        cache = KvCache(self._decoder, num_cache_rows, manifest.max_tokens, page_tokens)
        self._session: DecoderSession | None = DecoderSession(decoder_file, self._decoder, decoder, cache)
        self.decoder_execution_providers = decoder.get_providers()
        """The decoder's chain, as the engine reports it."""
        self._generations: dict[int, Generation] = {}
        self._released: deque[int] = deque()
        self._masks = ThreadPoolExecutor(1, f"{manifest.name} masks")
        self._preparing: Future[None] | None = None  # what constrained sequences may write next
        self._run_options: RunOptions = onnxruntime.RunOptions()
        self._name = f"{manifest.name}/{manifest.version}"
        self._thread = EngineThread(manifest.name, self._give_back)

    @property
    def provider(self) -> Provider:
        """Of the encoder; without one, of the decoder."""
        return self.decoder_provider if self._encoder is None else self._encoder.provider

    @property
    def execution_providers(self) -> list[str]:
        """The same, as the engine reports it."""
        return self.decoder_execution_providers if self._encoder is None else self._encoder.execution_providers

    @property
    def num_used_rows(self) -> int:
        """Rows of the cache that hold a sequence, or held one until the step before."""
        return self._opened().cache.num_used

    async def forward(self, batch: Batch) -> StepOutput:
        """Take a step on the engine's thread. A sequence whose numbers are not finite gets an error in its place.

        An output holds `token_ids` and `sequence_index`, both int64 (tokens,): what the step has made certain, and which of the
        sequences that are returned each token belongs to. With `num_logprobs` also `logprobs` (tokens,) float32, and
        `top_token_ids` and `top_logprobs` (tokens, num_logprobs).

        Raises:
            OutOfMemory: the engine had no memory for a single sequence.
            EngineLost: the thread is gone.
        """
        self._run_options = options = onnxruntime.RunOptions()  # here, so that a step can be stopped before it has begun
        return await self._thread.call(lambda: self._step(batch, options))

    def generate(self, rows: abc.Sequence[Row], sampling: SamplingParams) -> list[RowOutput]:
        """Write whole sequences here and now: for offline use, before anything is written otherwise.

        Returns:
            As the outputs of `forward`, those of all steps together.

        Raises:
            HooperError: one of them cannot be written.
        """
        written: list[RowOutput] = []
        num_together = max(1, self.slots.num_rows // sampling.num_beams)
        for start in range(0, len(rows), num_together):
            written += self._write_to_end(rows[start : start + num_together], sampling)
        return written

    def release(self, slots: abc.Sequence[int]) -> None:
        """Forget these sequences at the beginning of the next step: one of others may be under way."""
        self._released.extend(slots)

    def terminate(self) -> None:
        """Tell the step in progress to stop; it does so between two nodes of a graph, not within one."""
        self._run_options.terminate = True

    async def aclose(self, patience_s: float | None = None) -> None:
        """As `EncoderEngine.aclose`, which it does as well."""
        if not await self._thread.close(CLOSE_S if patience_s is None else patience_s, self.terminate):
            logger.error("an engine was abandoned in a step that does not end", extra={"model": self._name})

    def _write_to_end(self, rows: abc.Sequence[Row], sampling: SamplingParams) -> list[RowOutput]:
        for row in rows:
            self.slots.check(row, sampling)
        batch = [Sequence(row, sampling, cache_slot=-1 - number) for number, row in enumerate(rows)]
        outputs: dict[Sequence, list[RowOutput]] = {sequence: [] for sequence in batch}
        phase: Phase = "prefill"
        running = batch
        try:
            while running:
                step = self._step(Batch(phase, running), onnxruntime.RunOptions())
                for sequence, output in zip(running, step.outputs, strict=True):  # of who still reads, an empty one
                    if isinstance(output, HooperError):
                        raise output
                    outputs[sequence].append(output)
                running = [sequence for sequence, ended in zip(running, step.is_finished, strict=True) if not ended]
                phase = "decode"
        finally:
            self.release([_slot_of(sequence) for sequence in batch])
        return [
            {name: np.concatenate([step[name] for step in steps]) for name in ("token_ids", "sequence_index")}
            for steps in outputs.values()
        ]

    def _give_back(self) -> None:
        self._masks.shutdown(wait=False, cancel_futures=True)
        self._session = None
        self._generations.clear()
        if self._encoder is not None:
            self._encoder.give_back()

    # --- on the thread

    def _step(self, batch: Batch, options: RunOptions) -> StepOutput:
        began = time.perf_counter()
        session = self._opened()
        prefixes = session.cache.prefixes
        num_evicted = prefixes.num_evicted
        self._forget_released(session.cache)
        prefilled: abc.Sequence[Generation | HooperError]
        num_computed = 0
        if batch.phase == "decode":
            prefilled = [self._generations[_slot_of(sequence)] for sequence in batch.sequences]
        elif self._encoder is None:
            prefilled = [self._begin_reading(session.cache, sequence) for sequence in batch.sequences]
        else:
            prefilled, num_computed = self._prefill(session, self._encoder, batch.sequences, options)
        entries = [entry for entry in prefilled if isinstance(entry, Generation)]
        writing = [entry for entry in entries if not entry.is_reading]
        if batch.phase == "decode":
            num_computed = sum(entry.writer.num_rows for entry in writing)
        self._prepare(entries)
        unread = [entry for entry in entries if entry.is_reading]
        results, reading = self._read(session, unread, options)
        num_reused = dict(zip(map(id, unread), reading.num_reused, strict=True))
        results |= dict(zip(map(id, writing), self._write(session, writing, options), strict=True))
        self.slots.num_prefix_bytes = prefixes.num_bytes
        step = _step_output([results[id(entry)] if isinstance(entry, Generation) else entry for entry in prefilled])
        return replace(
            step,
            num_computed_tokens=num_computed + reading.num_read,
            inference_s=time.perf_counter() - began,
            num_read=reading.num_read,
            num_reused=[num_reused.get(id(entry), 0) for entry in prefilled],
            num_evicted=prefixes.num_evicted - num_evicted,
        )

    def _prepare(self, generations: abc.Sequence[Generation]) -> None:
        """Have it found out beside the decoder's step what those may write next that are held to a form."""
        writers = [
            entry.writer for entry in generations if isinstance(entry.writer, TokenSampler) and entry.writer.is_unprepared
        ]
        self._preparing = self._masks.submit(_prepare_all, writers) if writers else None

    def _finish_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.result()

    def _begin_reading(self, cache: KvCache, sequence: Sequence) -> Generation:
        generation, owner = self._begin(sequence), _sampling_of(sequence).prefix_owner
        cache.add(generation.slot)
        generation.prompt = ContinuedRow(np.array(sequence.row.input_ids, np.int64), owner if self._keeps_prefixes else None)
        return generation

    def _read(
        self, session: DecoderSession, generations: abc.Sequence[Generation], options: RunOptions
    ) -> tuple[dict[int, Written | HooperError], Reading]:
        """Read on in the rows of these.

        Returns:
            what each came to, by its id: nothing, where it has more to read; and what was done.
        """
        rows_of = [session.cache.rows(generation.slot) for generation in generations]
        unread = [(entry.prompt, rows[0]) for entry, rows in zip(generations, rows_of, strict=True) if entry.prompt]
        reading = read_prompts(session, unread, options)
        self._finish_preparing()
        return {
            id(generation): NOTHING if generation.is_reading else _written(generation, session, rows)
            for generation, rows in zip(generations, rows_of, strict=True)
        }, reading

    def _forget_released(self, cache: KvCache) -> None:
        slots = [self._released.popleft() for _ in range(len(self._released))]
        for slot in slots:
            self._generations.pop(slot, None)
        cache.release(slots)

    def _prefill(
        self, session: DecoderSession, encoder: EncoderEngine, sequences: abc.Sequence[Sequence], options: RunOptions
    ) -> tuple[abc.Sequence[Generation | HooperError], int]:
        """Put the sources into the cache, and what the sequences start with, but for the last token: that is the next step's.

        Returns:
            a generation or an error for every sequence, and the tokens that the encoder multiplied.
        """
        encoded, num_computed = _encode(encoder, [sequence.row for sequence in sequences], options)
        prefilled: list[Generation | HooperError] = [
            output if isinstance(output, HooperError) else self._begin(sequence)
            for sequence, output in zip(sequences, encoded, strict=True)
        ]
        beginnings = [
            (generation, output["cross"], self._first_token_ids(sequence))
            for sequence, generation, output in zip(sequences, prefilled, encoded, strict=True)
            if isinstance(generation, Generation) and not isinstance(output, HooperError)
        ]
        beginnings.sort(key=lambda beginning: -len(beginning[2]))  # so that those with more to read are neighbours
        first = session.cache.num_used
        for generation, cross, _ in beginnings:
            session.cache.add(generation.slot, cross)
        for position in range(len(beginnings[0][2]) - 1 if beginnings else 0):
            tokens = [token_ids[position] for _, _, token_ids in beginnings if position < len(token_ids) - 1]
            rows = range(first, first + len(tokens))
            session.cache.input_ids[rows.start : rows.stop, 0] = tokens
            _run(session, rows, options)
        return prefilled, num_computed

    def _begin(self, sequence: Sequence) -> Generation:
        sampling, slot, first_token_ids = _sampling_of(sequence), _slot_of(sequence), self._first_token_ids(sequence)
        room = self._decoder.max_length - len(first_token_ids)
        if room < sampling.max_new_tokens:  # behind a long text
            sampling = replace(sampling, max_new_tokens=room)
        kind = BeamSearch if sampling.num_beams > 1 else TokenSampler
        self._generations[slot] = generation = Generation(slot, kind(sampling, first_token_ids), first_token_ids[-1:])
        return generation

    def _first_token_ids(self, sequence: Sequence) -> abc.Sequence[int]:
        if self._encoder is None:
            return sequence.row.input_ids
        return _sampling_of(sequence).decoder_input_ids or (self._decoder.start_token_id,)

    def _write(
        self, session: DecoderSession, generations: abc.Sequence[Generation], options: RunOptions
    ) -> list[Written | HooperError]:
        """One step of the decoder for all of these, and what each comes to."""
        cache = session.cache
        rows_of = [cache.rows(generation.slot) for generation in generations]
        all_rows = [*chain.from_iterable(rows_of)]
        cache.input_ids[all_rows, 0] = [*chain.from_iterable(generation.next_token_ids for generation in generations)]
        for neighbours in cache.ranges(all_rows):
            _run(session, neighbours, options)
        self._finish_preparing()
        return [_written(generation, session, rows) for generation, rows in zip(generations, rows_of, strict=True)]

    def _opened(self) -> DecoderSession:
        if self._session is None:
            raise EngineLost("the engine was given back")
        return self._session


def _encode(encoder: EncoderEngine, rows: abc.Sequence[Row], options: RunOptions) -> tuple[list[RowOutput | HooperError], int]:
    """An output or an error for every row: those that fail together are run in halves, since nothing is kept yet."""
    try:
        step = encoder.run_batch(rows, options)
    except Exception as error:
        if options.terminate or isinstance(error, EngineLost):
            raise
        if len(rows) == 1:
            failed = f"the engine failed on the source of a sequence ({type(error).__name__})"
            return [error if isinstance(error, HooperError) else EngineFailed(failed)], rows[0].num_tokens
    else:
        return list(step.outputs), step.num_computed_tokens
    middle = len(rows) // 2
    first, num_first = _encode(encoder, rows[:middle], options)
    second, num_second = _encode(encoder, rows[middle:], options)
    return first + second, num_first + num_second


def _run(session: DecoderSession, rows: range, options: RunOptions) -> None:
    """A step of these rows: in halves where memory is short, since one writes to the cache what it would write alone.

    Raises:
        OutOfMemory: it is too short for one.
    """
    pending = [rows]
    while pending:
        part = pending.pop()
        try:
            session.step(part, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise OutOfMemory("the engine had no memory for one step of a single sequence") from error
            middle = part.start + len(part) // 2
            pending += [range(part.start, middle), range(middle, part.stop)]
    session.cache.past_lengths[rows.start : rows.stop] += 1


def _written(generation: Generation, session: DecoderSession, rows: abc.Sequence[int]) -> Written | HooperError:
    """What the logits of its rows come to, with the cache ready for its next step."""
    cache = session.cache
    try:
        written = generation.writer.write(session.logits[rows[0] : rows[0] + 1] if len(rows) == 1 else session.logits[rows])
    except HooperError as error:
        cache.clear(generation.slot)
        return error
    except Exception as error:  # whatever a task's own condition of an end raises is its sequence's failure
        return EngineFailed(f"what was written could not be judged ({type(error).__name__})")
    generation.next_token_ids = written.next_token_ids
    if written.sources is not None:
        if len(rows) < len(written.sources):  # the first step: all beams go on from the same
            cache.widen(generation.slot, len(written.sources))
        else:
            cache.reorder(generation.slot, written.sources)
    return written


NOTHING = Written([], None, [], [], is_finished=False)
"""What a step comes to for a sequence whose row has more to read."""


def _prepare_all(writers: abc.Sequence[TokenSampler]) -> None:
    for writer in writers:
        writer.prepare()


def _step_output(results: abc.Sequence[Written | HooperError]) -> StepOutput:
    """What they come to, without what it cost."""
    is_finished = [isinstance(result, HooperError) or result.is_finished for result in results]
    outputs = [result if isinstance(result, HooperError) else _output(result) for result in results]
    return StepOutput(outputs, 0, 0.0, is_finished, [result is NOTHING for result in results])


FIRST = np.zeros(1, np.int64)
"""The index of a sequence's only token in a step, which every output of one token shares."""
FIRST.setflags(write=False)


def _output(written: Written) -> RowOutput:
    is_one = len(written.sequence_index) == 1 and not written.sequence_index[0]
    output: dict[str, Array | Ints] = {
        "token_ids": np.array(written.token_ids, np.int64),
        "sequence_index": FIRST if is_one else np.array(written.sequence_index, np.int64),
    }
    if (logprobs := written.logprobs) is not None:
        output["logprobs"] = np.array([logprobs.logprob], np.float32)
        output["top_token_ids"], output["top_logprobs"] = logprobs.top_token_ids[None], logprobs.top_logprobs[None]
    return output


def _decoder_of(manifest: Manifest, has_encoder: bool) -> Decoder:
    """
    Raises:
        InvalidArtefact: the manifest's graphs are not those of an encoder and its decoder, or of a decoder alone.
    """
    decoder, outputs = manifest.decoder, manifest.graph.outputs
    if decoder is None or decoder.has_encoder != has_encoder:
        what = "that reads what an encoder makes of a source" if has_encoder else "that reads a text itself"
        raise InvalidArtefact(f"{manifest.name}/{manifest.version} has no decoder {what}")
    if has_encoder and (len(outputs) != 1 or outputs[0].name != "cross" or outputs[0].axis != "token"):
        raise InvalidArtefact(f"the encoder of {manifest.name}/{manifest.version} does not give `cross` for each token")
    return decoder


def _slot_of(sequence: Sequence) -> int:
    if sequence.cache_slot is None:
        raise EngineFailed("a sequence without a slot cannot be written")
    return sequence.cache_slot


def _sampling_of(sequence: Sequence) -> SamplingParams:
    if sequence.sampling is None:
        raise EngineFailed("an engine that writes was asked to encode")
    return sequence.sampling
