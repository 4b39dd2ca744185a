/** Messages between the compute thread, which owns the engine, and the network thread, which owns all sockets. */
import type { ErrorRecord } from '../../shared/errors.ts';
import type { MessageOf, WorkerStall } from '../../shared/protocol/messages.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { ArenaLayout } from '../arena/arena.ts';
import type { StateTensors } from '../state/state-pieces.ts';

/** Start data of the network thread. */
export interface NetworkData {
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly workerId: string;
  /** Address the data port binds; undefined: see planDataHosts (data-plane.ts). */
  readonly listenHost?: string | undefined;
  readonly listenPort: number;
  /** Address by which other workers dial it; undefined: see planDataHosts. */
  readonly advertiseHost?: string | undefined;
  /** Memory of the ProgressCell. */
  readonly progress: SharedArrayBuffer;
}

/** Compute → network. A request with epoch and generation answers a command of that epoch and generation. */
export type NetworkRequest =
  | MessageOf<'ready' | 'evaluation-ready' | 'evaluated' | 'saved' | 'aborted' | 'not-finite'>
  | MessageOf<'failed'>
  /** The gradient was checked and applied. The network thread adds digest and norm. */
  | Omit<MessageOf<'report'>, 'gradDigest' | 'gradSumOfSquares'>
  /** The all-reduce of a step begins; its buckets follow. */
  | { readonly kind: 'begin-step'; readonly step: number }
  | { readonly kind: 'bucket-ready'; readonly bucket: number }
  /** The state after `step` updates, for the members that copy it. Nobody writes to the tensors while it is offered. */
  | { readonly kind: 'offer-state'; readonly step: number; readonly tensors: StateTensors }
  /** Asks for the state of `step` from the peers that hold it. `state-copied` follows. */
  | { readonly kind: 'copy-state'; readonly step: number; readonly tensors: StateTensors }
  /** The engine has the state that the generation starts from. */
  | { readonly kind: 'state-in-place'; readonly generation: number; readonly paramDigest?: string }
  /** The process was told to leave. The coordinator is told now and after each welcome. */
  | { readonly kind: 'drain'; readonly reason: string }
  /** The data source does not answer, or (null) answers again. Heartbeats carry it. */
  | { readonly kind: 'source'; readonly stall: WorkerStall | null }
  /** Close all sockets: the process is about to end. The coordinator gets the reason. */
  | { readonly kind: 'leave'; readonly reason: string };

/** Network → compute: the coordinator's commands in their order, and results of the collective. */
export type NetworkEvent =
  | MessageOf<'welcome' | 'welcome-evaluation' | 'form' | 'deal' | 'evaluate' | 'save' | 'abort' | 'finish'>
  /** Channels and state of this member are ready. */
  | {
      readonly kind: 'formed';
      readonly epoch: number;
      readonly generation: number;
      readonly memory: WebAssembly.Memory;
      readonly layout: ArenaLayout;
    }
  | { readonly kind: 'state-copied'; readonly generation: number }
  | {
      readonly kind: 'reduced';
      readonly step: number;
      readonly sumOfSquares: number;
      readonly firstNonFiniteBytes: number | null;
    }
  /** The collective or the copy of the state failed. The coordinator has the failure too, and decides. */
  | { readonly kind: 'generation-failed'; readonly generation: number; readonly error: ErrorRecord }
  /** The data port refused a connection. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  /** No outbox: gradients for workers of this host go through sockets, which is slower. */
  | { readonly kind: 'no-outbox'; readonly error: ErrorRecord }
  /** The coordinator does not answer and is dialled again. */
  | { readonly kind: 'waiting'; readonly reason: string }
  /** The connection to the coordinator is over for good, or the network thread failed. */
  | { readonly kind: 'lost'; readonly error: ErrorRecord };

export type Deal = Extract<NetworkEvent, { kind: 'deal' }>;

export type Reduced = Extract<NetworkEvent, { kind: 'reduced' }>;

/** The all-reduce as the step runner uses it. */
export interface Reducer {
  beginStep(step: number): void;
  bucketReady(bucket: number): void;
  /** @throws what broke the collective, ABORTED */
  reduced(step: number, signal: AbortSignal): Promise<Reduced>;
}

export type FormMessage = MessageOf<'form'>;

export type ProbeMessage = MessageOf<'probe-links'>;
