/**
 * The feed thread: reads the dealt examples, corrupts spans, packs rows into shared microbatches, as far ahead as there are free
 * slots. Its first failure is its last word: a feed that left something out would train on other examples than were dealt.
 */
import { fillRow } from '../../mixture/feed/batch.ts';
import { openPreparedMixture, type PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { decodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { threadPort } from '../../shared/thread/thread.ts';
import { viewSlot } from './batch-ring.ts';
import type { BatchPlace, FeedData, FeedReply, FeedRequest } from './feed-messages.ts';

interface PendingMicrobatch extends BatchPlace {
  readonly rows: readonly PlannedRow[];
  readonly numDrops: number;
}

type Dealt = Extract<FeedRequest, { kind: 'deal' }>;

const port = threadPort<FeedRequest, FeedReply>();
const { preparedFolder, mixtureHash, seed, shape, microbatchesPerLane, numSlots, ring } = port.data as FeedData;
const slots = Array.from({ length: numSlots }, (_, slot) => viewSlot(ring, shape, slot));
const freeSlots = slots.map((_, slot) => slot);
/** Bounded by the steps that are dealt ahead. */
let pending: PendingMicrobatch[] = [];
let mixture: PreparedMixture | undefined;
let hasFailed = false;

function fillFreeSlots(): void {
  while (mixture !== undefined && pending.length > 0 && freeSlots.length > 0) {
    const { rows, ...batch } = pending.shift()!;
    const slot = freeSlots.shift()!;
    let inputTokens = 0;
    try {
      for (const [row, examples] of rows.entries()) inputTokens += fillRow(slots[slot]!, row, examples, mixture, seed);
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      const { step, lane, microbatch } = batch;
      throw new TrainerError(code, `feed of step ${step} lane ${lane} microbatch ${microbatch}: ${message}`, {
        cause: thrown,
      });
    }
    port.post({ kind: 'batch', ...batch, slot, inputTokens });
  }
}

function take(request: FeedRequest): void {
  switch (request.kind) {
    case 'deal':
      pending.push(...cutIntoMicrobatches(request));
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

/** @throws MESSAGE_INVALID where a lane has another number of rows than the run's lanes have */
function cutIntoMicrobatches({ step, lanes, numDrops }: Dealt): PendingMicrobatch[] {
  const rowsPerLane = microbatchesPerLane * shape.numRows;
  return lanes.flatMap(({ lane, rows: encoded }) => {
    const rows = decodeRows(encoded);
    if (rows.length !== rowsPerLane)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `step ${step} lane ${lane}: expected ${rowsPerLane} rows, was dealt ${rows.length}`,
      );
    return Array.from({ length: microbatchesPerLane }, (_, microbatch) => ({
      step,
      lane,
      microbatch,
      numDrops,
      rows: rows.slice(microbatch * shape.numRows, (microbatch + 1) * shape.numRows),
    }));
  });
}

/** Runs the work unless some of it has failed already. */
async function failingOnce(work: () => void | Promise<void>): Promise<void> {
  if (hasFailed) return;
  try {
    await work();
  } catch (error) {
    hasFailed = true;
    port.post({ kind: 'failed', error: toErrorRecord(error) });
  }
}

port.onMessage((request) => void failingOnce(() => take(request)));
await failingOnce(async () => {
  mixture = await openPreparedMixture(preparedFolder, { expectedHash: mixtureHash });
  port.post({ kind: 'opened', taskNames: mixture.taskNames });
  if (!hasFailed) fillFreeSlots();
});
