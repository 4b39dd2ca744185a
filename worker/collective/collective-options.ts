/** What a Collective is made of, and what can be chosen about the all-reduce; costs are in bench/RESULTS.md. */

import type { Clock } from '../../shared/clock.ts';
import type { Arena } from './arena.ts';
import type { BucketPlan } from './bucket-plan.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';
import type { Link } from './link.ts';

export interface CollectiveOptions {
  /** Most bytes of one payload, a multiple of 64. */
  readonly frameBytes: number;
  /** Checksum every payload before its bytes are used. */
  readonly verify: boolean;
  /** Longest time without any progress once the own buckets are all ready. */
  readonly timeoutMs: number;
}

export const DEFAULT_COLLECTIVE_OPTIONS: CollectiveOptions = {
  frameBytes: 512 << 10,
  verify: true,
  timeoutMs: 60_000,
};

export interface CollectiveInit {
  readonly arena: Arena;
  readonly plan: BucketPlan;
  readonly laneTree: LaneTree;
  readonly rank: number;
  readonly epoch: number;
  readonly generation: number;
  /** Number of the generation's first step. */
  readonly firstStep: number;
  /** One per peer, not yet started. */
  readonly links: readonly Link[];
  readonly options?: Partial<CollectiveOptions>;
  readonly clock?: Clock;
}
