/** The feed thread: reads the dealt examples, corrupts spans, packs rows into shared microbatches, as far ahead as there are free slots. */
import { fillRow } from '../../mixture/feed/batch.ts';
import { openPreparedMixture, type PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { decodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { toErrorRecord } from '../../shared/errors.ts';
import { threadPort } from '../../shared/thread/thread.ts';
import { viewSlot } from './batch-ring.ts';
import type { BatchPlace, FeedData, FeedReply, FeedRequest } from './feed-messages.ts';

interface PendingMicrobatch extends BatchPlace {
  readonly rows: readonly PlannedRow[];
}

const port = threadPort<FeedRequest, FeedReply>();
const { preparedFolder, mixtureHash, seed, shape, numSlots, ring } = port.data as FeedData;
const slots = Array.from({ length: numSlots }, (_, slot) => viewSlot(ring, shape, slot));
const freeSlots = slots.map((_, slot) => slot);
/** Bounded by the steps that are dealt ahead. */
let pending: PendingMicrobatch[] = [];
let mixture: PreparedMixture | undefined;

function fillFreeSlots(): void {
  while (mixture !== undefined && pending.length > 0 && freeSlots.length > 0) {
    const { rows, ...place } = pending.shift()!;
    const slot = freeSlots.shift()!;
    let inputTokens = 0;
    for (const [row, examples] of rows.entries()) inputTokens += fillRow(slots[slot]!, row, examples, mixture, seed);
    port.post({ kind: 'batch', ...place, slot, inputTokens });
  }
}

function take(request: FeedRequest): void {
  switch (request.kind) {
    case 'deal':
      for (const { lane, rows } of request.lanes)
        pending.push(...cutIntoMicrobatches(request.step, lane, decodeRows(rows)));
      break;
    case 'free':
      freeSlots.push(request.slot);
      break;
    case 'drop':
      pending = [];
      break;
  }
  fillFreeSlots();
}

function cutIntoMicrobatches(step: number, lane: number, rows: readonly PlannedRow[]): PendingMicrobatch[] {
  const count = rows.length / shape.numRows;
  return Array.from({ length: count }, (_, microbatch) => ({
    step,
    lane,
    microbatch,
    rows: rows.slice(microbatch * shape.numRows, (microbatch + 1) * shape.numRows),
  }));
}

port.onMessage((request) => {
  try {
    take(request);
  } catch (error) {
    port.post({ kind: 'failed', error: toErrorRecord(error) });
  }
});

try {
  mixture = await openPreparedMixture(preparedFolder, { expectedHash: mixtureHash });
  port.post({ kind: 'opened' });
  fillFreeSlots();
} catch (error) {
  port.post({ kind: 'failed', error: toErrorRecord(error) });
}
