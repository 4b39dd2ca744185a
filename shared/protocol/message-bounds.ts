/**
 * How large a control message of each kind may be, in bytes and in values: they bound the time that decoding it takes. Those that grow with
 * the run have the run's lanes and tasks in them. Pure.
 */
import type { CoordinatorMessage, WorkerMessage } from './messages.ts';

export interface MessageBound {
  readonly maxBytes: number;
  /** Values and keys of maps. */
  readonly maxElements: number;
}

/** By kind. A kind that is not here is bounded as the smallest. */
export type MessageBounds = Readonly<Record<string, MessageBound>>;

export interface RunSize {
  readonly numLanes: number;
  readonly numTasks: number;
}

/** Maps and arrays inside each other. */
export const MAX_DEPTH = 16;
/** Of any message; transport.ts has the same bound. */
const MAX_MESSAGE_BYTES = 16_777_216;
/** Of any message; the smallest 16 MiB of reports have fewer. */
export const MAX_ELEMENTS = 4_194_304;
/** A message without lists or long texts, and every first message. */
export const MAX_SMALL_BYTES = 4_096;
const MAX_SMALL_ELEMENTS = 64;
/** A message with one long text (16,384 characters). */
const MAX_TEXT_BYTES = 65_536;
/** Configuration, or the texts of an engine's notes. */
const MAX_FACTS_BYTES = 1_048_576;
/** Shards of a checkpoint that one worker has written, about 150 B each; outputs of a batch of an evaluation, 4 B a token. */
const MAX_RESULT_BYTES = 2_097_152;

/** Values of a batch of an evaluation: its outputs with their scores. */
const MAX_EVALUATED_ELEMENTS = 32_768;

export const SMALL: MessageBound = { maxBytes: MAX_SMALL_BYTES, maxElements: MAX_SMALL_ELEMENTS };
const TEXT: MessageBound = { maxBytes: MAX_TEXT_BYTES, maxElements: MAX_SMALL_ELEMENTS };
const LARGEST: MessageBound = { maxBytes: MAX_MESSAGE_BYTES, maxElements: MAX_ELEMENTS };

function bound(maxBytes: number, maxElements: number): MessageBound {
  return {
    maxBytes: Math.min(maxBytes, LARGEST.maxBytes),
    maxElements: Math.min(maxElements, LARGEST.maxElements),
  };
}

/** Messages of a worker. */
export function boundWorkerMessages({ numLanes, numTasks }: RunSize): MessageBounds {
  const numSums = numLanes * (numTasks + 1);
  const bounds: Readonly<Record<WorkerMessage['kind'], MessageBound>> = {
    join: SMALL,
    ready: bound(MAX_FACTS_BYTES, 2 * MAX_SMALL_ELEMENTS),
    formed: SMALL,
    report: bound(MAX_SMALL_BYTES + 64 * (numLanes + numSums), MAX_SMALL_ELEMENTS + 8 * (numLanes + numSums)),
    'not-finite': bound(MAX_TEXT_BYTES + 64 * numSums, MAX_SMALL_ELEMENTS + 8 * numSums),
    saved: bound(MAX_RESULT_BYTES, MAX_RESULT_BYTES / 16),
    aborted: SMALL,
    heartbeat: TEXT,
    'links-probed': TEXT,
    'evaluation-ready': bound(MAX_FACTS_BYTES, MAX_SMALL_ELEMENTS),
    evaluated: bound(MAX_RESULT_BYTES, MAX_EVALUATED_ELEMENTS),
    drain: TEXT,
    failed: bound(MAX_TEXT_BYTES + 5 * numLanes, MAX_SMALL_ELEMENTS + numLanes),
  };
  return bounds;
}

/** Messages of the coordinator. @param numLanes 0 before the welcome: no generation can be formed yet */
export function boundCoordinatorMessages(numLanes: number): MessageBounds {
  // A member has three texts of at most 256 characters; there are at most as many members as lanes.
  const members = bound(MAX_SMALL_BYTES + 2_560 * numLanes, 2 * MAX_SMALL_ELEMENTS + 20 * numLanes);
  const bounds: Readonly<Record<CoordinatorMessage['kind'], MessageBound>> = {
    welcome: bound(MAX_FACTS_BYTES, MAX_FACTS_BYTES / 16),
    form: members,
    'probe-links': members,
    deal: bound(MAX_MESSAGE_BYTES, MAX_SMALL_ELEMENTS + 5 * numLanes),
    'welcome-evaluation': bound(MAX_FACTS_BYTES, MAX_FACTS_BYTES / 16),
    evaluate: bound(MAX_MESSAGE_BYTES, MAX_EVALUATED_ELEMENTS),
    save: TEXT,
    abort: TEXT,
    finish: TEXT,
    heartbeat: SMALL,
  };
  return bounds;
}
