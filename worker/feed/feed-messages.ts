/** What the compute thread and the feed thread say to each other. */
import type { PreparedAccess } from '../../mixture/feed/prepared-mixture.ts';
import type { SourceNotice } from '../../mixture/feed/source-watch.ts';
import type { ErrorRecord } from '../../shared/errors.ts';
import type { BatchShape } from './batch-ring.ts';

/** How a remote mixture is read: what of it can be sent to a thread. */
export type SourceOptions = Omit<PreparedAccess, 'onSource'>;

/** What the feed thread is started with. */
export interface FeedData {
  /** A folder, or an http:, https: or s3: URL. */
  readonly preparedFolder: string;
  /** The prepared mixture the run was started with. */
  readonly mixtureHash: string;
  readonly seed: number;
  readonly shape: BatchShape;
  readonly microbatchesPerLane: number;
  readonly numSlots: number;
  readonly ring: SharedArrayBuffer;
  readonly access: SourceOptions;
}

/** One lane of a dealt step: its rows as mixture/plan encodes them. */
export interface LaneRows {
  readonly lane: number;
  readonly rows: Uint8Array;
}

/** Compute → feed. A batch carries the `numDrops` of its deal: one of before the last drop is not taken for a new one. */
export type FeedRequest =
  | { readonly kind: 'deal'; readonly step: number; readonly lanes: readonly LaneRows[]; readonly numDrops: number }
  | { readonly kind: 'free'; readonly slot: number }
  /** Forget what is dealt and not yet handed over. */
  | { readonly kind: 'drop' };

/** Place of a microbatch in the run. */
export interface BatchPlace {
  readonly step: number;
  readonly lane: number;
  readonly microbatch: number;
}

/** Feed → compute. */
export type FeedReply =
  | { readonly kind: 'opened'; readonly taskNames: readonly string[] }
  | ({
      readonly kind: 'batch';
      readonly slot: number;
      readonly inputTokens: number;
      readonly numDrops: number;
    } & BatchPlace)
  /** A remote mixture does not answer, or answers again. */
  | { readonly kind: 'source'; readonly notice: SourceNotice }
  /** No batch comes after it. */
  | { readonly kind: 'failed'; readonly error: ErrorRecord };
