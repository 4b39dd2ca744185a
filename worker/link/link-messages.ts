/** What the compute thread and the link thread say to each other. The link owns all sockets; compute owns the engine. */
import type { ErrorRecord } from '../../shared/errors.ts';
import type { CoordinatorMessage, WorkerMessage, WorkerStall } from '../../shared/protocol/messages.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { ArenaLayout } from '../collective/arena.ts';

/** What the link thread is started with. */
export interface LinkData {
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

type OwnMessage<Kind extends WorkerMessage['kind']> = Omit<
  Extract<WorkerMessage, { kind: Kind }>,
  'epoch' | 'generation'
>;

/** Compute → link. Epoch and generation are added by the link, which knows them. */
export type LinkRequest =
  | OwnMessage<'ready'>
  | OwnMessage<'saved'>
  | OwnMessage<'failed'>
  /** The all-reduce of a step begins; its buckets follow. */
  | { readonly kind: 'begin-step'; readonly step: number }
  | { readonly kind: 'bucket-ready'; readonly bucket: number }
  /** The gradient was checked and applied; digest and norm are the link's own. */
  | Pick<OwnMessage<'report'>, 'kind' | 'step' | 'lanes' | 'ms'>
  | OwnMessage<'aborted'>
  /** The source of data does not answer, or answers again; for heartbeats. */
  | { readonly kind: 'source'; readonly stall: WorkerStall | null }
  /** Close everything; the process is about to end. The coordinator is told the reason. */
  | { readonly kind: 'leave'; readonly reason: string };

/** Link → compute: commands of the coordinator in their order, and what the collective did. */
export type LinkEvent =
  | Extract<CoordinatorMessage, { kind: 'welcome' | 'deal' | 'save' | 'finish' }>
  | {
      readonly kind: 'formed';
      readonly rank: number;
      readonly worldSize: number;
      readonly memory: WebAssembly.Memory;
      readonly layout: ArenaLayout;
    }
  | {
      readonly kind: 'reduced';
      readonly step: number;
      readonly sumOfSquares: number;
      readonly firstNonFiniteBytes: number | null;
      readonly exposedMs: number;
    }
  /** The collective broke; the coordinator has been told and decides. */
  | { readonly kind: 'collective-failed'; readonly error: ErrorRecord }
  /** The data port turned somebody away. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  /** Workers of this host are reached through sockets alone. */
  | { readonly kind: 'no-outbox'; readonly error: ErrorRecord }
  /** The coordinator is not there yet and is dialled again. */
  | { readonly kind: 'waiting'; readonly reason: string }
  /** The coordinator calls the step under way off. */
  | { readonly kind: 'abort'; readonly reason: string }
  /** The coordinator is gone, or the link cannot go on. */
  | { readonly kind: 'lost'; readonly error: ErrorRecord };
