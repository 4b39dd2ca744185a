/**
 * The feed thread: reads the dealt examples, corrupts spans and packs rows into shared microbatches, ahead of the compute thread as far as slots
 * are free. It waits for a source that does not answer, and reports that; it never skips an example.
 */
import { fillRow } from '../../mixture/feed/batch.ts';
import { withDenoisers } from '../../mixture/feed/denoised-mixture.ts';
import { openPreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import { toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { threadPort } from '../../shared/thread/thread.ts';
import { BatchFiller, type DealtMicrobatch } from './batch-filler.ts';
import { viewSlot } from './batch-ring.ts';
import type { FeedData, FeedReply, FeedRequest } from './feed-messages.ts';

type Dealt = Extract<FeedRequest, { kind: 'deal' }>;

const port = threadPort<FeedRequest, FeedReply>();
const { preparedFolder, mixtureHash, seed, denoisers, shape, microbatchesPerLane, numSlots, ring, access } =
  port.data as FeedData;
const slots = Array.from({ length: numSlots }, (_, slot) => viewSlot(ring, shape, slot));
const filler = new BatchFiller({
  numSlots,
  onFilled: (batch) => port.post({ kind: 'batch', ...batch }),
  onFailed: (error) => port.post({ kind: 'failed', error: toErrorRecord(error) }),
});

port.onMessage((request) => {
  try {
    handle(request);
  } catch (error) {
    filler.fail(toTrainerError(error));
  }
});
try {
  const prepared = await openPreparedMixture(preparedFolder, {
    expectedHash: mixtureHash,
    access: { ...access, onSource: (notice) => port.post({ kind: 'source', notice }) },
  });
  const mixture = withDenoisers(prepared, denoisers);
  port.post({ kind: 'opened', taskNames: mixture.taskNames });
  filler.begin(async (slot, rows, signal) => {
    const filling = rows.map((examples, row) => fillRow(slots[slot]!, row, examples, mixture, seed, signal));
    return (await Promise.all(filling)).reduce((sum, inputTokens) => sum + inputTokens, 0);
  });
} catch (error) {
  filler.fail(toTrainerError(error));
}

function handle(request: FeedRequest): void {
  switch (request.kind) {
    case 'deal':
      filler.deal(cutIntoMicrobatches(request));
      break;
    case 'free':
      filler.free(request.slot);
      break;
    case 'drop':
      filler.drop();
      break;
  }
}

/** @throws MESSAGE_INVALID for a lane whose number of rows differs from that of the run's lanes */
function cutIntoMicrobatches({ step, lanes, numDrops }: Dealt): DealtMicrobatch[] {
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
