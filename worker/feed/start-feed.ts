/** Starts the feed of a run: shapes and bounds from its config; logs and reports a source that does not answer. */
import type { SourceNotice } from '../../mixture/feed/source-watch.ts';
import { denoisersOf, type RunConfig } from '../../shared/config/schema.ts';
import type { Logger } from '../../shared/logger.ts';
import type { WorkerStall } from '../../shared/protocol/messages.ts';
import { Feed } from './feed.ts';

/** Microbatches that the feed thread may have ready. */
const FEED_SLOTS = 8;

export interface StartFeedInit {
  readonly config: RunConfig;
  readonly preparedFolder: string;
  readonly mixtureHash: string;
  readonly log: Logger;
  /** The source does not answer, or (null) answers again: for the coordinator. */
  readonly onStall: (stall: WorkerStall | null) => void;
}

export function startFeed({ config, preparedFolder, mixtureHash, log, onStall }: StartFeedInit): Feed {
  const { featureLengths, training, seed, feed } = config;
  return new Feed({
    preparedFolder,
    mixtureHash,
    seed,
    denoisers: denoisersOf(config),
    shape: {
      numRows: training.microbatchRows,
      inputsLength: featureLengths.inputs,
      targetsLength: featureLengths.targets,
    },
    microbatchesPerLane: microbatchesPerLane(config),
    numSlots: FEED_SLOTS,
    access: { sourceTimeoutMs: feed.sourceTimeoutMs },
    onSource: (notice: SourceNotice) => {
      if (notice.kind === 'answers') {
        log.info({ forMs: notice.forMs, attempts: notice.attempts }, 'source answers again');
        onStall(null);
        return;
      }
      const { place, forMs, attempts, reason } = notice;
      log.warn({ place, forMs, attempts, reason }, 'source does not answer');
      onStall({ reason: `${place}: ${reason}`, forMs });
    },
  });
}

export function microbatchesPerLane({ training }: RunConfig): number {
  return training.rowsPerStep / training.numLanes / training.microbatchRows;
}
