/**
 * Every failure of exmix: one class, one stable code, one table.
 *
 * Match on `code` (or on the code's `reaction`), never on the message, nor by `instanceof` across a socket or a thread.
 * A message says what was expected, what was found, where, and what to do. It may repeat names of a stranger's file: control characters are
 * escaped.
 */
import { visibleText } from './visible-text.ts';

/** The reaction of a catcher to a failure. The command line maps it to the exit status (docs/protocol.md, Errors). */
export type Reaction = 'usage' | 'data' | 'protocol' | 'transport' | 'run';

interface CodeFacts {
  readonly reaction: Reaction;
  /** One sentence for the table in docs/protocol.md. */
  readonly meaning: string;
}

/** The table of all codes. docs/protocol.md has the same rows; a test compares them. */
export const ERROR_CODES = {
  CONFIG_INVALID: {
    reaction: 'usage',
    meaning: 'The configuration or a flag has one or more problems; all are listed.',
  },
  NAME_UNKNOWN: {
    reaction: 'usage',
    meaning: 'No task, preset, engine or command of that name; the nearest names are shown.',
  },
  MODULE_NOT_TRUSTED: {
    reaction: 'usage',
    meaning: 'A checkpoint or run folder names TypeScript that this machine does not know; it was not run.',
  },
  PATH_UNUSABLE: {
    reaction: 'usage',
    meaning: 'A file or folder is missing, of the wrong kind, or not readable or writable.',
  },
  RUN_LOCKED: { reaction: 'usage', meaning: 'Another live coordinator holds the run folder.' },
  PORT_IN_USE: { reaction: 'usage', meaning: 'The address to listen on is taken or not ours.' },
  ENGINE_UNAVAILABLE: { reaction: 'usage', meaning: 'The engine asked for cannot run on this machine.' },
  ENGINE_OUT_OF_MEMORY: {
    reaction: 'usage',
    meaning: 'The model and one microbatch do not fit into the memory the engine can have.',
  },
  GRAPH_UNRECORDABLE: {
    reaction: 'run',
    meaning: 'An operation of the model cannot become part of a recorded graph; the place in the code is given.',
  },
  PREREQUISITE_MISSING: {
    reaction: 'usage',
    meaning: 'Programs that an installation needs are not there; all are listed, with what brings them.',
  },
  ENGINE_INSTALL_FAILED: {
    reaction: 'run',
    meaning: 'A download, the build or the self-test of the native engine failed; nothing was installed.',
  },
  WHEEL_INVALID: {
    reaction: 'data',
    meaning: 'A wheel is truncated, altered, or of another package, version or platform than expected.',
  },
  RUN_NOT_TRAINING: {
    reaction: 'usage',
    meaning: 'The run is not at a step now, so what was asked of it cannot be done; ask again later.',
  },
  DISK_FULL: { reaction: 'run', meaning: 'The file system has no room for what must be written.' },

  SOURCE_MALFORMED: { reaction: 'data', meaning: 'More source rows are malformed than the threshold allows.' },
  SOURCE_UNREADABLE: { reaction: 'data', meaning: 'A source file is missing or cannot be decoded.' },
  STORAGE_NOT_FOUND: {
    reaction: 'data',
    meaning: 'No file or object of that name, on disk, on a server or in a bucket.',
  },
  STORAGE_DENIED: {
    reaction: 'usage',
    meaning: 'A server or bucket refuses the credentials, or asks for some (401, 403).',
  },
  STORAGE_UNAVAILABLE: {
    reaction: 'transport',
    meaning: 'A server or bucket did not answer, or answered 429 or 5xx, until the deadline.',
  },
  STORAGE_CHANGED: { reaction: 'data', meaning: 'A file or object became another one while it was being read.' },
  STORAGE_TRUNCATED: { reaction: 'data', meaning: 'A file or object has fewer bytes than it should have.' },
  TOKENIZER_INVALID: { reaction: 'data', meaning: 'A tokenizer file is corrupt or not a Unigram model.' },
  SHARD_CORRUPT: { reaction: 'data', meaning: 'A token shard or its manifest does not have the bytes it should have.' },
  MIXTURE_MISMATCH: { reaction: 'data', meaning: 'The prepared mixture is not the one the run was started with.' },
  CHECKPOINT_CORRUPT: {
    reaction: 'data',
    meaning: 'A checkpoint file is missing, extra, truncated or has another hash.',
  },
  CHECKPOINT_MISMATCH: {
    reaction: 'usage',
    meaning: 'A checkpoint does not fit the model or the run that wants to load it.',
  },
  JOURNAL_CORRUPT: {
    reaction: 'data',
    meaning: 'A journal record is damaged, or does not follow the record before it.',
  },
  LEDGER_CORRUPT: { reaction: 'data', meaning: 'A segment of the ledger is missing, cut or altered.' },
  METRIC_INPUT_INVALID: {
    reaction: 'data',
    meaning: 'Predictions and targets of a metric do not belong together, or are not of the kind that it compares.',
  },
  SAFETENSORS_INVALID: { reaction: 'data', meaning: 'A safetensors file is truncated or its header is not valid.' },

  AUTH_FAILED: { reaction: 'protocol', meaning: 'A socket came without the token of the run.' },
  MESSAGE_INVALID: { reaction: 'protocol', meaning: 'A control message cannot be decoded or breaks its schema.' },
  MESSAGE_TOO_LARGE: { reaction: 'protocol', meaning: 'A message is larger than docs/limits.md allows.' },
  FRAME_INVALID: { reaction: 'protocol', meaning: 'A tensor frame has a wrong type, length, place or checksum.' },
  FRAME_STALE: {
    reaction: 'protocol',
    meaning: 'A tensor frame is of another epoch, generation or step, or came twice.',
  },
  VERSION_MISMATCH: {
    reaction: 'protocol',
    meaning: 'The peer is another version of exmix, or speaks another protocol.',
  },
  JOIN_REFUSED: { reaction: 'protocol', meaning: 'The coordinator did not admit the worker; the reason is given.' },

  CONNECT_FAILED: { reaction: 'transport', meaning: 'A peer could not be reached before the deadline.' },
  CONNECTION_LOST: { reaction: 'transport', meaning: 'A socket closed or broke while it was needed.' },
  SEND_OVERFLOW: { reaction: 'transport', meaning: 'A peer reads too slowly: its send queue reached the bound.' },

  RENDEZVOUS_TIMEOUT: { reaction: 'run', meaning: 'Not enough workers joined before the deadline.' },
  WORKER_LOST: { reaction: 'run', meaning: 'A worker died, hung or left in the middle of the run.' },
  COLLECTIVE_TIMEOUT: { reaction: 'run', meaning: 'An all-reduce did not finish before its deadline.' },
  GRADIENT_DIVERGED: { reaction: 'run', meaning: 'Ranks hold different gradients for the same step.' },
  STATE_DIVERGED: { reaction: 'run', meaning: 'Ranks hold different parameters.' },
  GRADIENT_NOT_FINITE: { reaction: 'run', meaning: 'A gradient or loss is NaN or infinite; nothing was applied.' },
  TENSOR_LEAK: { reaction: 'run', meaning: 'The engine holds more tensors after a step than before it.' },
  ABORTED: { reaction: 'run', meaning: 'The work was aborted by its AbortSignal.' },
  NOT_SAVED: { reaction: 'run', meaning: 'The run was ended before its committed steps were in a checkpoint.' },
  INTERNAL: { reaction: 'run', meaning: 'An invariant of exmix itself does not hold: a bug.' },
} as const satisfies Record<string, CodeFacts>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface TrainerErrorOptions {
  /** Whether the same call may succeed later without any change. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
  /** Ranks at the other end of a link that broke. */
  readonly peers?: readonly number[];
}

export class TrainerError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly peers: readonly number[];

  constructor(code: ErrorCode, message: string, options: TrainerErrorOptions = {}) {
    super(visibleText(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TrainerError';
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.peers = options.peers ?? [];
  }

  get reaction(): Reaction {
    return ERROR_CODES[this.code].reaction;
  }
}

/** Plain form of an error, for a log line, a socket or a thread. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Anything thrown → a TrainerError: itself, or INTERNAL with the thrown value as cause. */
export function toTrainerError(thrown: unknown): TrainerError {
  if (thrown instanceof TrainerError) return thrown;
  if (thrown instanceof Error && thrown.name === 'AbortError')
    return new TrainerError('ABORTED', thrown.message, { cause: thrown });
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new TrainerError('INTERNAL', message, { cause: thrown });
}

export function toErrorRecord(thrown: unknown): ErrorRecord {
  const { code, message } = toTrainerError(thrown);
  return { code, message };
}

/** An ErrorRecord that came over a socket or from a thread → TrainerError; an unknown code becomes INTERNAL. */
export function fromErrorRecord(record: { code: string; message: string }): TrainerError {
  const code = Object.hasOwn(ERROR_CODES, record.code) ? (record.code as ErrorCode) : 'INTERNAL';
  return new TrainerError(code, record.message);
}

/** @throws INTERNAL if the invariant does not hold */
export function assertInvariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TrainerError('INTERNAL', `invariant broken: ${message}`);
}
