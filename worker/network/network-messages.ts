/** What the compute thread and the link thread say to each other. The link owns all sockets; compute owns the engine. */
import type { ErrorRecord } from '../../shared/errors.ts';
import type { MessageOf, WorkerStall } from '../../shared/protocol/messages.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { ArenaLayout } from '../arena/arena.ts';
import type { StateTensors } from '../state/state-pieces.ts';

/** What the link thread is started with. */
export interface NetworkData {
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly workerId: string;
  /** Address the data port binds. */
  readonly listenHost: string;
  readonly listenPort: number;
  /** Address other workers reach it by. */
  readonly advertiseHost: string;
  /** Memory of the ProgressCell. */
  readonly progress: SharedArrayBuffer;
}

/** Compute → link. What carries epoch and generation answers a command of them. */
export type NetworkRequest =
  | MessageOf<'ready' | 'saved' | 'aborted' | 'not-finite'>
  | MessageOf<'failed'>
  /** The gradient was checked and applied; digest and norm are the link's own. */
  | Omit<MessageOf<'report'>, 'gradDigest' | 'gradSumOfSquares'>
  /** The all-reduce of a step begins; its buckets follow. */
  | { readonly kind: 'begin-step'; readonly step: number }
  | { readonly kind: 'bucket-ready'; readonly bucket: number }
  /** The state after `step` updates, held still for the members that copy it. */
  | { readonly kind: 'offer-state'; readonly step: number; readonly tensors: StateTensors }
  /** To be filled with the state that peers hold; `state-copied` follows. */
  | { readonly kind: 'copy-state'; readonly step: number; readonly tensors: StateTensors }
  /** The state of the generation is in the engine. */
  | { readonly kind: 'state-in-place'; readonly generation: number; readonly paramDigest?: string }
  /** The source of data does not answer, or answers again; for heartbeats. */
  | { readonly kind: 'source'; readonly stall: WorkerStall | null }
  /** Close everything; the process is about to end. The coordinator is told the reason. */
  | { readonly kind: 'leave'; readonly reason: string };

/** Link → compute: commands of the coordinator in their order, and what the collective did. */
export type NetworkEvent =
  | MessageOf<'welcome' | 'form' | 'deal' | 'save' | 'abort' | 'finish'>
  /** Links and state of all members are in place. */
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
  /** The collective or the copying of the state broke; the coordinator has been told and decides. */
  | { readonly kind: 'generation-failed'; readonly generation: number; readonly error: ErrorRecord }
  /** The data port turned somebody away. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  /** Workers of this host are reached through sockets alone. */
  | { readonly kind: 'no-outbox'; readonly error: ErrorRecord }
  /** The coordinator is not there and is dialled again. */
  | { readonly kind: 'waiting'; readonly reason: string }
  /** The coordinator is gone for good, or the link cannot go on. */
  | { readonly kind: 'lost'; readonly error: ErrorRecord };

export type Deal = Extract<NetworkEvent, { kind: 'deal' }>;

export type Reduced = Extract<NetworkEvent, { kind: 'reduced' }>;

/** What the runner needs of the link. */
export interface Reducer {
  beginStep(step: number): void;
  bucketReady(bucket: number): void;
  /** @throws what broke the collective, ABORTED */
  reduced(step: number, signal: AbortSignal): Promise<Reduced>;
}

export type FormMessage = MessageOf<'form'>;
