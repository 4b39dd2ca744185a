/** The functions of session-addon.cc with their types, and how the compiled addon is loaded. */
import { TrainerError } from '../../../../shared/errors.ts';

declare const brand: unique symbol;
interface Handle<Name extends string> {
  readonly [brand]: Name;
}
export type SessionHandle = Handle<'session'>;
export type CallHandle = Handle<'call'>;
export type PartialRunHandle = Handle<'partial run'>;
export type ResultHandle = Handle<'result'>;

export interface FeedSpec {
  /** `node:0` */
  readonly name: string;
  readonly dtype: number;
  /** [-1]: an array of any length. */
  readonly shape: readonly number[];
}

export interface CallSpec {
  readonly feeds: readonly FeedSpec[];
  /** Tensors to fetch, in the groups in which they are handed out. */
  readonly groups: readonly (readonly string[])[];
  /** Nodes that must run although none of their tensors is fetched. */
  readonly targets: readonly string[];
  /** False: arrays are read in place, and must not become the value of a variable. */
  readonly copiesFeeds: boolean;
}

type Feeds = readonly (Float32Array | Int32Array)[];

/** Functions throw an Error whose `code` is ARGUMENT, TENSORFLOW or RESOURCE_EXHAUSTED. */
export interface SessionBinding {
  /** @param config a ConfigProto */
  open(config: Uint8Array): SessionHandle;
  close(session: SessionHandle): void;
  /** @param graph a GraphDef whose nodes are added @param existing tensors of earlier nodes that they use, `node:0` */
  extend(session: SessionHandle, graph: Uint8Array, existing: readonly string[]): void;
  prepare(session: SessionHandle, call: CallSpec): CallHandle;
  /** One group. */
  run(call: CallHandle, feeds: Feeds): ResultHandle[];
  /** @returns a RunMetadata */
  trace(call: CallHandle, feeds: Feeds): Uint8Array;
  start(call: CallHandle, feeds: Feeds): PartialRunHandle;
  take(run: PartialRunHandle, group: number): ResultHandle[];
  end(run: PartialRunHandle): void;
  view(result: ResultHandle): ArrayBuffer;
  release(result: ResultHandle): void;
  tuneMalloc(bytes: number): boolean;
  trimMalloc(): void;
  /** Registers the kernels of ../kernels for graphs. @param numThreads that share the work of one kernel */
  useKernels(numThreads: number): void;
}

/** @param path of the compiled addon, whose libraries lie at ../../deps/lib from its folder @throws ENGINE_UNAVAILABLE */
export function loadSessionBinding(path: string): SessionBinding {
  const holder: { exports: Partial<SessionBinding> } = { exports: {} };
  try {
    process.dlopen(holder, path);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw unavailable(`cannot be loaded: ${reason} (${path})`, error);
  }
  if (!isBinding(holder.exports)) throw unavailable(`is a library without its functions: ${path}`);
  return holder.exports;
}

function isBinding(exports: Partial<SessionBinding>): exports is SessionBinding {
  return typeof exports.open === 'function' && typeof exports.useKernels === 'function';
}

function unavailable(problem: string, cause?: unknown): TrainerError {
  return new TrainerError(
    'ENGINE_UNAVAILABLE',
    `the native engine's session addon ${problem}; install the engine anew: exmix engine install`,
    { cause },
  );
}
