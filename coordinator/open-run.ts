/**
 * From a config and a prepared mixture to a run that can start: its folder (new or resumed), its journal with a new epoch, and
 * the step, cursor and checkpoint to start from. Everything that can be known to be wrong is said here, before a worker starts.
 */
import { stringify } from 'yaml';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { planCursorSchema, type PlanCursor } from '../mixture/plan/planner.ts';
import { findLatestCheckpoint, readCheckpoint } from '../shared/checkpoint/read.ts';
import type { RunRecord } from '../shared/checkpoint/run-record.ts';
import { numericsHash } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { replaceFile } from '../shared/atomic-file.ts';
import { TrainerError } from '../shared/errors.ts';
import { Journal } from './journal.ts';
import { createRunFolder, openRunFolder, resolveResume, type RunFolder } from './run-folder.ts';

export interface OpenRunInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** Now, ms since 1970; names a new folder. */
  readonly wallMs: number;
  /** Room that the checkpoints need at least, bytes. */
  readonly requiredBytes: number;
  /** Where a new run goes; default `runs/<name>-<time>`. */
  readonly runDir?: string;
  /** A run folder or a checkpoint folder. */
  readonly resume?: string;
}

/** Where training starts. */
export interface StartingPoint {
  /** Updates already applied. */
  readonly step: number;
  readonly cursor?: PlanCursor;
  readonly checkpoint?: { readonly path: string; readonly paramDigest: string; readonly engineFingerprint: string };
}

export interface OpenRun {
  readonly folder: RunFolder;
  readonly journal: Journal;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** Sentences to log. */
  readonly notes: readonly string[];
  /** Releases folder and journal. */
  close(): Promise<void>;
}

/**
 * @throws PATH_UNUSABLE, DISK_FULL, RUN_LOCKED, JOURNAL_CORRUPT, CHECKPOINT_CORRUPT, CHECKPOINT_MISMATCH and MIXTURE_MISMATCH
 *   where the checkpoint is of another configuration or mixture
 */
export async function openRun(init: OpenRunInit): Promise<OpenRun> {
  const { config, mixture, wallMs, requiredBytes } = init;
  const target = init.resume === undefined ? undefined : await resolveResume(init.resume);
  const configText = stringify(config);
  // What cannot be resumed is refused before a new folder is made for it.
  const fromCheckpoint =
    target?.kind === 'checkpoint' ? await startFrom(target.checkpointFolder, config, mixture) : undefined;
  const folder =
    target?.kind === 'run'
      ? await openRunFolder(target.runFolder, wallMs, requiredBytes)
      : await createRunFolder({
          runsFolder: 'runs',
          name: config.name,
          wallMs,
          configText,
          requiredBytes,
          ...(init.runDir === undefined ? {} : { folder: init.runDir }),
        });
  let journal: Journal | undefined;
  try {
    const opened = await Journal.open(folder.journal);
    journal = opened.journal;
    const notes = [...folder.notes];
    const { torn } = opened.replay;
    if (torn !== undefined)
      notes.push(`cut ${torn.bytes} torn bytes off line ${torn.line} of the journal: ${torn.reason}`);
    if (target?.kind === 'run') await replaceFile(folder.config, configText);
    const start = fromCheckpoint ?? (await startInFolder(folder, config, mixture, notes));
    const epoch = journal.state.epoch + 1;
    await journal.append({
      kind: 'run-opened',
      epoch,
      configHash: numericsHash(config),
      seed: config.seed,
      mixtureHash: mixture.hash,
      step: start.step,
      ...(start.checkpoint === undefined ? {} : { fromCheckpoint: start.checkpoint.path }),
    });
    const held = journal;
    const close = async (): Promise<void> => {
      await held.close();
      await folder.lock.release();
    };
    return { folder, journal, epoch, start, notes, close };
  } catch (error) {
    await journal?.close();
    await folder.lock.release();
    throw error;
  }
}

/** The newest valid checkpoint of a run folder, or the beginning where it has none. */
async function startInFolder(
  folder: RunFolder,
  config: RunConfig,
  mixture: PreparedMixture,
  notes: string[],
): Promise<StartingPoint> {
  const { latest, skipped } = await findLatestCheckpoint(folder.folder);
  for (const { path, reason } of skipped) notes.push(`skipped ${path}: ${reason}`);
  return latest === undefined ? { step: 0 } : startFrom(latest.path, config, mixture);
}

async function startFrom(path: string, config: RunConfig, mixture: PreparedMixture): Promise<StartingPoint> {
  const { run } = await readCheckpoint(path);
  checkFits(path, run, config, mixture);
  const cursor = planCursorSchema.safeParse(run.cursor);
  if (!cursor.success)
    throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: run.json holds no cursor of a mixture plan`, {
      cause: cursor.error,
    });
  return {
    step: run.step,
    cursor: cursor.data,
    checkpoint: { path, paramDigest: run.paramDigest, engineFingerprint: run.engineFingerprint },
  };
}

function checkFits(path: string, run: RunRecord, config: RunConfig, mixture: PreparedMixture): void {
  if (run.configHash !== numericsHash(config)) {
    const differences = listDifferences(run.config, JSON.parse(JSON.stringify(config)) as unknown).filter(
      (difference) => !FREE_FIELDS.some((field) => difference.startsWith(field)),
    );
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `${path} was trained with another configuration (${differences.slice(0, 8).join('; ')}); to go on bit for bit these must be as they were`,
    );
  }
  if (run.mixtureHash !== mixture.hash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `${path}: expected prepared mixture ${run.mixtureHash}, found ${mixture.hash} in ${mixture.folder}; restore the sources, templates and tokenizer it was prepared from`,
    );
}

/** Sections that may change between sessions of a run without changing its bits. */
const FREE_FIELDS = [
  'name',
  'cluster.',
  'collective.',
  'checkpoint.',
  'compute.',
  'training.steps',
  'mixture.path',
  'mixture.prepared',
];

/** `path: a → b` for each leaf that differs. */
function listDifferences(before: unknown, after: unknown, path = ''): string[] {
  const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  if (!isTree(before) || !isTree(after))
    return Object.is(before, after) ? [] : [`${path}: ${JSON.stringify(before)} → ${JSON.stringify(after)}`];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => listDifferences(before[key], after[key], path === '' ? key : `${path}.${key}`));
}
