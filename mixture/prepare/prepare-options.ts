/** Options of prepareMixture: their defaults and checks. */
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

/** Largest size of a token shard, bytes. */
const SHARD_BYTES = 64 * 1024 * 1024;
/**
 * About how many bytes of a source make a unit. That is seconds to a minute of work, so a dead process loses little.
 */
export const UNIT_BYTES = 64 * 1024 * 1024;
/** Default for the largest share of malformed rows of a task. */
export const BAD_ROW_THRESHOLD = 0.001;
/** Lengths are stored in 16 bits. */
const MAX_FEATURE_LENGTH = 65_535;
const MAX_PROCESSES = 1024;
/** `auto` starts one process for this many bytes of sources. For less, starting it takes longer than its work. */
const BYTES_PER_PROCESS = 16 * 1024 * 1024;

export interface PrepareInit {
  readonly mixture: Mixture;
  /** Tokens, EOS included. */
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture. Created if it does not exist. */
  readonly outDir: string;
  /** Largest share of malformed rows of each task, 0 to 1. */
  readonly badRowThreshold?: number;
  readonly unitBytes?: number;
  readonly shardBytes?: number;
  /** How sources are reached. Default: from the environment. */
  readonly access?: SourceAccess;
  /**
   * Number of child processes that make units. 1, the default, means no child: this process makes them. `auto` means as
   * many as there are cores and enough work. Children load the mixture from its file.
   */
  readonly processes?: number | 'auto';
  /**
   * The units that this process makes: `all` (the default), those of one member of a job array, or `none`: it only checks that all
   * units exist, and merges.
   */
  readonly units?: 'all' | 'none' | Shard;
  /** Resolves remote sources again, also if a preparation has begun. */
  readonly refresh?: boolean;
  /** Keeps finished tasks with only remote sources as they are, and asks no server. */
  readonly pinned?: boolean;
  /**
   * Hashes existing units if they have at most this many bytes in all, else compares only sizes. Default: always
   * hashes.
   */
  readonly hashUpToBytes?: number;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
  /** Called at most once in `PROGRESS_INTERVAL_MS`, and at the end. */
  readonly onProgress?: (snapshot: PrepareSnapshot) => void;
  /** Called when a task is finished. */
  readonly onTask?: (task: PreparedTaskReport) => void;
  /** Lines for the user: a process died, a unit is made again, a request is retried. */
  readonly onNote?: (line: string) => void;
  /** Opens the files of shards, if no child process makes units. Tests replace it. */
  readonly openFile?: ShardWriterInit['openFile'];
}

export const PROGRESS_INTERVAL_MS = 1_000;

export interface PreparedTaskReport {
  readonly name: string;
  /** `reused`: all its units existed before. */
  readonly outcome: 'prepared' | 'reused';
  readonly unitsMade: number;
  readonly unitsKept: number;
  /** Why existing units were made again. */
  readonly reason?: string;
  readonly manifest: TaskManifest;
}

export interface PrepareReport {
  readonly folder: string;
  /** Identifies the prepared mixture: folders with the same hash hold the same bytes. */
  readonly hash: string;
  readonly tasks: readonly PreparedTaskReport[];
}

type WithDefault =
  | 'badRowThreshold'
  | 'unitBytes'
  | 'shardBytes'
  | 'access'
  | 'processes'
  | 'units'
  | 'refresh'
  | 'pinned'
  | 'hashUpToBytes'
  | 'clock';

/** PrepareInit with all defaults. */
export type PrepareSettings = Omit<PrepareInit, WithDefault> & Required<Pick<PrepareInit, WithDefault>>;

/** @throws CONFIG_INVALID for a value out of range */
export function completeOptions(init: PrepareInit): PrepareSettings {
  const settings: PrepareSettings = {
    badRowThreshold: BAD_ROW_THRESHOLD,
    unitBytes: UNIT_BYTES,
    shardBytes: SHARD_BYTES,
    processes: 1,
    units: 'all',
    refresh: false,
    pinned: false,
    hashUpToBytes: Infinity,
    clock: systemClock,
    ...init,
    access: reportRetries(init.access ?? createSourceAccess(), init.onNote),
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
 * Number of child processes; 1 means that this process makes the units itself.
 * @param bytes of sources to read, or an amount of work that takes as long
 * @param numUnits to make or check
 */
export function chooseProcesses(processes: number | 'auto', bytes: number, numUnits: number): number {
  const wanted =
    processes === 'auto' ? Math.min(availableParallelism(), Math.floor(bytes / BYTES_PER_PROCESS)) : processes;
  return Math.max(1, Math.min(wanted, numUnits));
}
