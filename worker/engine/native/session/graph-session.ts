/**
 * One TensorFlow session: a graph that grows, variables that live in it, and calls that were prepared once.
 * Fetched tensors are float32. One call at a time; each call blocks the JavaScript thread until its results are there.
 * A view costs Node about 2 KiB until the next turn of its event loop, so a caller lets the loop turn now and then.
 */
import { toTrainerError, TrainerError } from '../../../../shared/errors.ts';
import { encodeGraph, type GraphNode } from '../recording/graph-def.ts';
import type { CallHandle, CallSpec, ResultHandle, SessionBinding, SessionHandle } from './session-binding.ts';

export type Feeds = readonly (Float32Array | Int32Array)[];

/** malloc keeps freed blocks below this size: mapping memory anew for every large tensor costs more than using it. */
const KEPT_BLOCK_BYTES = 1024 ** 3;

/** Kept blocks fragment over time: without trimming, a process grows for hours. A trim costs the page faults of the next run. */
const RUNS_BETWEEN_TRIMS = 256;

export class GraphSession {
  readonly #binding: SessionBinding;
  readonly #session: SessionHandle;
  #numRuns = 0;

  /** @param config a ConfigProto @throws INTERNAL, ENGINE_OUT_OF_MEMORY as all methods do */
  constructor(binding: SessionBinding, config: Uint8Array) {
    this.#binding = binding;
    binding.tuneMalloc(KEPT_BLOCK_BYTES);
    this.#session = guarded(() => binding.open(config));
  }

  /** Adds nodes, which may use tensors of earlier ones; variables keep their values. */
  extend(nodes: readonly GraphNode[]): void {
    const added = new Set(nodes.map(({ name }) => name));
    const used = new Set(nodes.flatMap(({ inputs }) => inputs.filter((name) => !name.startsWith('^'))));
    const existing = [...used].filter((name) => !added.has(name.slice(0, name.lastIndexOf(':'))));
    guarded(() => {
      this.#binding.extend(this.#session, encodeGraph(nodes), existing);
    });
  }

  prepare(call: CallSpec): CallHandle {
    return guarded(() => this.#binding.prepare(this.#session, call));
  }

  /** @param use gets views of the fetched tensors, valid only during the call */
  run<T>(call: CallHandle, feeds: Feeds, use: (fetched: Float32Array[]) => T): T {
    return this.#use(
      guarded(() => this.#binding.run(call, feeds)),
      use,
    );
  }

  /**
   * Hands out each group of fetches as soon as it is computed, in their order, while TensorFlow continues.
   * @param onGroup gets views, valid only during the call
   */
  runInGroups(
    call: CallHandle,
    numGroups: number,
    feeds: Feeds,
    onGroup: (group: number, fetched: Float32Array[]) => void,
  ): void {
    const run = guarded(() => this.#binding.start(call, feeds));
    let taken = 0;
    const take = () => guarded(() => this.#binding.take(run, taken++));
    try {
      while (taken < numGroups) {
        const group = taken;
        this.#use(take(), (fetched) => {
          onGroup(group, fetched);
        });
      }
    } catch (error) {
      // An unfinished run would continue beside the next one: fetch the rest.
      while (taken < numGroups && !isOfTensorFlow(error)) for (const result of take()) this.#binding.release(result);
      throw error;
    } finally {
      this.#binding.end(run);
      this.#numRuns += 1;
      if (this.#numRuns % RUNS_BETWEEN_TRIMS === 0) this.#binding.trimMalloc();
    }
  }

  /** One run, with the times of every operation. @returns a RunMetadata message */
  trace(call: CallHandle, feeds: Feeds): Uint8Array {
    return guarded(() => this.#binding.trace(call, feeds));
  }

  close(): void {
    guarded(() => {
      this.#binding.close(this.#session);
    });
  }

  #use<T>(results: readonly ResultHandle[], use: (fetched: Float32Array[]) => T): T {
    try {
      return use(results.map((result) => new Float32Array(this.#binding.view(result))));
    } finally {
      for (const result of results) this.#binding.release(result);
    }
  }
}

function guarded<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw asTrainerError(error);
  }
}

function asTrainerError(error: unknown): TrainerError {
  const { message } = toTrainerError(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'RESOURCE_EXHAUSTED')
    return new TrainerError(
      'ENGINE_OUT_OF_MEMORY',
      `TensorFlow has no memory left: ${message}; lower training.microbatchRows`,
      { cause: error },
    );
  return new TrainerError('INTERNAL', `TensorFlow refused: ${message}`, { cause: error });
}

function isOfTensorFlow(error: unknown): boolean {
  return error instanceof TrainerError && error.cause instanceof Error && 'code' in error.cause;
}
