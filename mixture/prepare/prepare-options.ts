/** What prepareMixture is told, checked and with what was left out filled in. */
import { availableParallelism } from 'node:os';
import type { Clock } from '../../shared/clock.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createSourceAccess, reportRetries, type SourceAccess } from '../sources/source-access.ts';
import type { FeatureLengths, Mixture } from '../tasks/task.ts';
import type { TaskManifest } from './manifest.ts';
import type { PrepareSnapshot } from './prepare-progress.ts';
import type { ShardWriterInit } from './shard-writer.ts';
import type { Shard } from './unit-queue.ts';

/** A shard ends before it would be larger. */
const SHARD_BYTES = 64 * 1024 * 1024;
/** About how many bytes of a source make a unit: seconds to a minute of work, so that little is lost with a process. */
export const UNIT_BYTES = 64 * 1024 * 1024;
/** Share of malformed rows that a task may have. */
export const BAD_ROW_THRESHOLD = 0.001;
/** Lengths are stored in 16 bits. */
const MAX_FEATURE_LENGTH = 65_535;
const MAX_PROCESSES = 1024;
/** `auto` starts a process for each of so many bytes of sources: below, starting it takes longer than its work. */
const BYTES_PER_PROCESS = 16 * 1024 * 1024;

export interface PrepareInit {
  readonly mixture: Mixture;
  /** Tokens, EOS included. */
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture; made where it is not there. */
  readonly outDir: string;
  /** Largest share of malformed rows, 0 to 1, of the rows of each task. */
  readonly badRowThreshold?: number;
  readonly unitBytes?: number;
  readonly shardBytes?: number;
  /** How sources are reached; default: by the environment. */
  readonly access?: SourceAccess;
  /**
   * Child processes that make units; 1 (the default): none, this process does it. `auto`: as many as there are cores and the work
   * is worth. Children load the mixture from its file.
   */
  readonly processes?: number | 'auto';
  /** Only this member's units of a job array. */
  readonly shard?: Shard;
  /** Makes nothing: checks that all units are there, and merges. */
  readonly mergeOnly?: boolean;
  /** Looks at remote sources anew, also where a preparation has begun. */
  readonly refresh?: boolean;
  /** Takes finished tasks whose sources are all remote as they are, without asking a server. */
  readonly pinned?: boolean;
  /** Hashes what is kept where it is at most so many bytes in all, else looks only at sizes. Default: always hashes. */
  readonly hashUpToBytes?: number;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
  /** Called at most once in `PROGRESS_INTERVAL_MS`, and at the end. */
  readonly onProgress?: (snapshot: PrepareSnapshot) => void;
  /** Called when a task is done. */
  readonly onTask?: (task: PreparedTaskReport) => void;
  /** What a user should know in between: a process that died, a unit that is made again. */
  readonly onNote?: (line: string) => void;
  /** Opens the files of shards where no process is started; a fake in tests. */
  readonly openFile?: ShardWriterInit['openFile'];
}

export const PROGRESS_INTERVAL_MS = 1_000;

export interface PreparedTaskReport {
  readonly name: string;
  /** `reused`: all its units were there. */
  readonly outcome: 'prepared' | 'reused';
  readonly unitsMade: number;
  readonly unitsKept: number;
  /** Why units were made again, where there were some before. */
  readonly reason?: string;
  readonly manifest: TaskManifest;
}

export interface PrepareReport {
  readonly folder: string;
  /** Identifies the prepared mixture: two folders with this hash hold the same bytes. */
  readonly hash: string;
  readonly tasks: readonly PreparedTaskReport[];
}

/** PrepareInit with what was left out filled in. */
export type PrepareSettings = Omit<PrepareInit, 'signal' | 'shard' | 'openFile'> &
  Required<
    Pick<
      PrepareInit,
      'badRowThreshold' | 'unitBytes' | 'shardBytes' | 'access' | 'processes' | 'hashUpToBytes' | 'clock'
    >
  > & {
    readonly signal: AbortSignal | undefined;
    readonly shard: Shard | undefined;
    readonly openFile: ShardWriterInit['openFile'] | undefined;
  };

/** @throws CONFIG_INVALID for what is out of range */
export function completeOptions(init: PrepareInit): PrepareSettings {
  const settings: PrepareSettings = {
    ...init,
    badRowThreshold: init.badRowThreshold ?? BAD_ROW_THRESHOLD,
    unitBytes: init.unitBytes ?? UNIT_BYTES,
    shardBytes: init.shardBytes ?? SHARD_BYTES,
    access: reportRetries(init.access ?? createSourceAccess(), init.onNote),
    processes: init.processes ?? 1,
    hashUpToBytes: init.hashUpToBytes ?? Infinity,
    clock: init.clock ?? systemClock,
    signal: init.signal,
    shard: init.shard,
    openFile: init.openFile,
  };
  const { inputs, targets } = settings.featureLengths;
  for (const [what, length] of [
    ['inputs', inputs],
    ['targets', targets],
  ] as const)
    if (!Number.isInteger(length) || length < 2 || length > MAX_FEATURE_LENGTH)
      throw new TrainerError(
        'CONFIG_INVALID',
        `${what} length: expected a whole number of tokens from 2 to ${MAX_FEATURE_LENGTH}, found ${length}`,
      );
  const { badRowThreshold, processes } = settings;
  if (!(badRowThreshold >= 0 && badRowThreshold <= 1))
    throw new TrainerError(
      'CONFIG_INVALID',
      `bad-row threshold: expected a share from 0 to 1, found ${badRowThreshold}`,
    );
  if (processes !== 'auto' && !(Number.isInteger(processes) && processes >= 1 && processes <= MAX_PROCESSES))
    throw new TrainerError(
      'CONFIG_INVALID',
      `processes: expected a whole number from 1 to ${MAX_PROCESSES}, found ${processes}`,
    );
  return settings;
}

/**
 * How many children make units; 1: none, this process does it.
 * @param bytes of sources that are to be read, or what takes as long
 * @param numUnits that are to be seen to
 */
export function chooseProcesses(processes: number | 'auto', bytes: number, numUnits: number): number {
  const wanted =
    processes === 'auto' ? Math.min(availableParallelism(), Math.floor(bytes / BYTES_PER_PROCESS)) : processes;
  return Math.max(1, Math.min(wanted, numUnits));
}
