/** Messages between the compute thread and the feed thread. */
import type { PreparedAccess } from '../../mixture/feed/prepared-mixture.ts';
import type { SourceNotice } from '../../mixture/feed/source-watch.ts';
import type { Denoiser } from '../../shared/denoisers.ts';
import type { ErrorRecord } from '../../shared/errors.ts';
import type { BatchShape } from './batch-ring.ts';

/** How a remote mixture is read, as far as it can be posted to a thread. */
export type SourceOptions = Omit<PreparedAccess, 'onSource'>;

/** Start data of the feed thread. */
export interface FeedData {
  /** A folder, or an http:, https: or s3: URL. */
  readonly preparedFolder: string;
  /** The prepared mixture the run was started with. */
  readonly mixtureHash: string;
  readonly seed: number;
  /** With the ids of their prefixes; undefined: T5's span corruption. */
  readonly denoisers?: readonly Denoiser[] | undefined;
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

/** Compute → feed. A batch carries the `numDrops` of its deal, so a batch from before the last drop is recognised. */
export type FeedRequest =
  | { readonly kind: 'deal'; readonly step: number; readonly lanes: readonly LaneRows[]; readonly numDrops: number }
  | { readonly kind: 'free'; readonly slot: number }
  /** Drop every microbatch that is dealt and not yet handed over. */
  | { readonly kind: 'drop' };

/** Position of a microbatch in the run. */
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
  /** No batch follows. */
  | { readonly kind: 'failed'; readonly error: ErrorRecord };
