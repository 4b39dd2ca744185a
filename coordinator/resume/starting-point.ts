/**
 * Where training starts: at the beginning, at a checkpoint that fits configuration and prepared mixture, or at one that is carried to a
 * changed mixture after the user confirmed it.
 *
 * Definition: the mixture has changed where tasks, sizes, texts or templates have (the hash of the prepared mixture), or where settings under
 * `mixture` that decide the order have. A checkpoint is never carried to another tokenizer: the ids would mean other words.
 */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { carriedWindow, carryCursor, compareTasks, type TaskChange } from '../../mixture/plan/carry-cursor.ts';
import type { PlanCursor } from '../../mixture/plan/planner.ts';
import { readCheckpoint } from '../../shared/checkpoint/read.ts';
import type { RunRecord } from '../../shared/checkpoint/run-record.ts';
import { checkConfig, numericsHash, numericsOf } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { planConfigOf } from '../deal/plan-config.ts';
import { runCursorSchema, settingsAt, type RateChange, type RunCursor } from '../deal/rate-changes.ts';

export interface StartingPoint {
  /** Updates already applied. */
  readonly step: number;
  /** Absent: the beginning of the plan. */
  readonly cursor?: PlanCursor;
  /** Changes of rates that the plan continues with. */
  readonly rateChanges: readonly RateChange[];
  /** The newest checkpoint; of an earlier step where only workers hold the state of `step`. Absent: `init`, else the seed. */
  readonly checkpoint?: {
    readonly step: number;
    readonly path: string;
    readonly paramDigest: string;
    readonly engineFingerprint: string;
  };
  /** Sentences to log: how the mixture has changed. */
  readonly notes: readonly string[];
}

export interface StartInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** The user has confirmed that the mixture may differ from the checkpoint's. */
  readonly allowMixtureChange: boolean;
}

/** Changes of rates after the window of a checkpoint. */
export type LaterChanges =
  /** Those of the run folder that continues: requests after the checkpoint are in its journal. */
  | { readonly kind: 'journal'; readonly changes: readonly RateChange[] }
  /** A new run folder knows those of the checkpoint only. */
  | { readonly kind: 'checkpoint' };

/** The start of a run without a checkpoint. @param changes of rates in its journal */
export function startFromScratch(
  { config, mixture }: Pick<StartInit, 'config' | 'mixture'>,
  changes: readonly RateChange[] = [],
): StartingPoint {
  const rateChanges = changes.map((change) => keepKnown(change, mixture));
  planConfigOf(config, mixture, rateChanges);
  return { step: 0, rateChanges, notes: [] };
}

/**
 * The start from a checkpoint, whose every byte is verified.
 * @throws CHECKPOINT_CORRUPT; CHECKPOINT_MISMATCH for another configuration or version; MIXTURE_MISMATCH with the table of changes where the
 *   mixture has changed without confirmation, and for another tokenizer
 */
export async function startFromCheckpoint(
  path: string,
  { config, mixture, allowMixtureChange }: StartInit,
  later: LaterChanges,
): Promise<StartingPoint> {
  const { run } = await readCheckpoint(path);
  const cursor = readCursor(path, run);
  const before = configOfRun(path, run);
  checkFits(path, before, config, allowMixtureChange);
  const hasOtherRates = numericsHash(before) !== numericsHash(config);
  const { step, paramDigest, engineFingerprint } = run;
  const checkpoint = { step, path, paramDigest, engineFingerprint };
  const laterChanges = later.kind === 'journal' ? later.changes : cursor.rateChanges;
  const rateChanges = [
    ...cursor.rateChanges.filter(({ window }) => window <= cursor.window),
    ...laterChanges.filter(({ window }) => window > cursor.window),
  ];
  if (run.mixtureHash === mixture.hash && !hasOtherRates) return { step, cursor, rateChanges, checkpoint, notes: [] };

  const changes = compareTasks(cursor.tasks, mixture.tasks);
  const table = describeChanges(changes, cursor, mixture, run, hasOtherRates);
  if (run.tokenizerHash !== mixture.tokenizer.hash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `${path}: expected a mixture prepared with the tokenizer ${run.tokenizerHash ?? 'of the checkpoint'}, found ${mixture.tokenizer.hash} in ${mixture.folder}; a model cannot continue with another one: prepare with that of the checkpoint folder`,
    );
  if (!allowMixtureChange)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `${path}: expected prepared mixture ${run.mixtureHash}, found ${mixture.hash} in ${mixture.folder}:\n${table}` +
        'Restore the sources, templates and settings it was prepared from, or continue with the changed mixture by --allow-mixture-change: ' +
        'tasks of the same name and size continue where they were in their epoch, others begin a new one.',
    );
  // Rates that were changed during training still hold, unless the configuration has other ones now.
  const settings = hasOtherRates ? config.mixture : settingsAt(config.mixture, rateChanges, Infinity);
  const window = carriedWindow(cursor);
  const { rates, denoisingRatio } = settings;
  const change = keepKnown({ window, firstStep: step + 1, rates, denoisingRatio }, mixture);
  const carried = carryCursor(cursor, planConfigOf(config, mixture, [change]), mixture.tasks);
  const note = `the mixture has changed and continues with window ${window} of its plan, by --allow-mixture-change:\n${table}`;
  return { step, cursor: carried, rateChanges: [change], checkpoint, notes: [note] };
}

/** The place of a checkpoint in its mixture plan. @throws CHECKPOINT_MISMATCH for one of an earlier version, CHECKPOINT_CORRUPT */
export function readCursor(path: string, run: RunRecord): RunCursor {
  const cursor = runCursorSchema.safeParse(run.cursor);
  if (cursor.success) return cursor.data;
  const isEarlier = typeof run.cursor === 'object' && run.cursor !== null && !('version' in run.cursor);
  if (isEarlier)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `${path}: expected a place in the mixture of version 2, found one of exmix ${run.exmixVersion} without a version; ` +
        'finish that run with the exmix that began it, or start a new one from its weights',
      { cause: cursor.error },
    );
  throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: run.json holds no place in a mixture plan`, {
    cause: cursor.error,
  });
}

function configOfRun(path: string, run: RunRecord): RunConfig {
  try {
    return checkConfig(run.config, path);
  } catch (error) {
    throw new TrainerError('CHECKPOINT_MISMATCH', `${path}: its configuration is not one of this version of exmix`, {
      cause: error,
    });
  }
}

/** Only the rates of tasks that the mixture still has. */
function keepKnown(change: RateChange, { taskNames }: PreparedMixture): RateChange {
  const known = Object.entries(change.rates).filter(([name]) => taskNames.includes(name));
  return { ...change, rates: Object.fromEntries(known) };
}

/** @throws CHECKPOINT_MISMATCH */
function checkFits(path: string, before: RunConfig, config: RunConfig, allowMixtureChange: boolean): void {
  const comparable = allowMixtureChange ? { ...before, mixture: config.mixture } : before;
  if (numericsHash(comparable) === numericsHash(config)) return;
  const differences = listDifferences(numericsOf(comparable), numericsOf(config));
  const isRates = differences.some((difference) => difference.startsWith('mixture.'));
  throw new TrainerError(
    'CHECKPOINT_MISMATCH',
    `${path} was trained with another configuration (${differences.slice(0, 8).join('; ')}); to continue bit for bit these must be as they were` +
      (isRates ? '; to continue with another mixture all the same, add --allow-mixture-change' : ''),
  );
}

/** `path: a → b` for each leaf that differs. */
function listDifferences(before: unknown, after: unknown, path = ''): string[] {
  const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  if (!isTree(before) || !isTree(after))
    return Object.is(before, after) ? [] : [`${path}: ${JSON.stringify(before)} → ${JSON.stringify(after)}`];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => listDifferences(before[key], after[key], path === '' ? key : `${path}.${key}`));
}

/** One line for each change, each with its newline. */
function describeChanges(
  changes: readonly TaskChange[],
  cursor: RunCursor,
  mixture: PreparedMixture,
  run: RunRecord,
  hasOtherRates: boolean,
): string {
  const width = Math.max(...changes.map(({ name }) => name.length), 0);
  const lines = changes.map(({ name, change, numBefore, numNow }) => {
    const sizes = { added: `${numNow}`, removed: `${numBefore}`, resized: `${numBefore} → ${numNow}` }[change];
    return `  ${change.padEnd(8)} ${name.padEnd(width)} ${sizes} examples`;
  });
  const numSame = mixture.tasks.length - changes.filter(({ change }) => change !== 'removed').length;
  lines.push(`  ${numSame} of ${cursor.tasks.length} tasks keep name and size`);
  if (changes.length === 0 && run.mixtureHash !== mixture.hash)
    lines.push('  texts, templates or feature lengths of a task differ');
  if (hasOtherRates)
    lines.push('  settings of the mixture differ (rates, cap, temperature, denoising ratio or window)');
  return `${lines.join('\n')}\n`;
}
