/**
 * Replays a step and compares its gradient: trains from the nearest published checkpoint before it, in a scratch folder, with one worker
 * on this host. Assumes the engine fingerprint of the run: another engine gives other bits, which the verdict says.
 */
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { LedgerReader } from '../../coordinator/ledger/ledger-reader.ts';
import { readRunHistory } from '../../coordinator/ledger/run-history.ts';
import { runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { checkpointName } from '../../shared/checkpoint/layout.ts';
import { listCheckpointFolders } from '../../shared/checkpoint/read.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';

/** Last lines of a failed run to show. */
const SHOWN_LINES = 15;

export interface ReplayInit {
  readonly reader: LedgerReader;
  readonly step: number;
  /** Most steps to train. */
  readonly maxSteps: number;
  /** Parent of the scratch folder, which holds up to two checkpoints. */
  readonly scratch?: string;
  /** Run the TypeScript of the mixture that the run folder names. */
  readonly trustModules: boolean;
  readonly signal: AbortSignal;
}

export interface ReplayedStep {
  readonly step: number;
  /** CRC-32 of the summed gradient, as committed and as replayed. */
  readonly committed: number;
  readonly replayed: number;
}

export interface Replay {
  /** The checkpoint that the replay started from; null: the seed. */
  readonly checkpoint: string | null;
  readonly steps: readonly ReplayedStep[];
  readonly isSame: boolean;
}

interface Origin {
  readonly step: number;
  /** Absent: the seed. */
  readonly path?: string;
}

/**
 * @throws CONFIG_INVALID with the steps that can be replayed, where no checkpoint is near enough; WORKER_LOST where the scratch run fails;
 *   ABORTED
 */
export async function replayStep(init: ReplayInit): Promise<Replay> {
  const { reader, step, maxSteps, trustModules, scratch = tmpdir(), signal } = init;
  reader.checkStep(step);
  const origin = await findOrigin(reader, step, maxSteps);
  let folder: string;
  try {
    folder = await mkdtemp(join(scratch, 'exmix-replay-'));
  } catch (error) {
    throw toStorageError(error, 'make a folder in', scratch);
  }
  try {
    const copy = join(folder, 'run');
    await copyRun(reader.runFolder, copy, origin);
    await train(copy, step, trustModules, signal);
    const again = await readRunHistory(runPaths(copy).journal);
    const steps: ReplayedStep[] = [];
    for (let at = origin.step + 1; at <= step; at++) {
      const session = reader.history.sessionOf(at);
      const own = again.sessionOf(at);
      const committed = session === undefined ? undefined : reader.history.commit(session.epoch, at);
      const replayed = own === undefined ? undefined : again.commit(own.epoch, at);
      if (committed === undefined || replayed === undefined)
        throw new TrainerError('INTERNAL', `step ${at} was not replayed`);
      steps.push({ step: at, committed: committed.gradDigest, replayed: replayed.gradDigest });
    }
    const isSame = steps.every(({ committed, replayed }) => committed === replayed);
    return { checkpoint: origin.path ?? null, steps, isSame };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The nearest whole checkpoint before the step, or the seed of a run that began from it. */
async function findOrigin({ runFolder, history }: LedgerReader, step: number, maxSteps: number): Promise<Origin> {
  const origins: Origin[] = history.firstStep === 1 ? [{ step: 0 }] : [];
  const started = history.sessions.flatMap(({ startStep, fromCheckpoint }) =>
    fromCheckpoint === undefined ? [] : [{ step: startStep, path: fromCheckpoint }],
  );
  for (const candidate of [...started, ...(await listCheckpointFolders(runFolder))]) {
    const report = await verifyCheckpoint(candidate.path, { depth: 'size' }).catch(() => undefined);
    if (report?.problems.length === 0) origins.push(candidate);
  }
  const nearest = origins.filter((origin) => origin.step < step).sort((a, b) => b.step - a.step)[0];
  if (nearest !== undefined && step - nearest.step <= maxSteps) return nearest;
  const ranges = origins
    .filter((origin) => origin.step < history.lastStep)
    .sort((a, b) => a.step - b.step)
    .map((origin) => `${origin.step + 1} to ${Math.min(origin.step + maxSteps, history.lastStep)}`)
    .filter((range, i, all) => all.indexOf(range) === i);
  const near =
    nearest === undefined ? 'there is no checkpoint before it' : `the nearest before it is step ${nearest.step}`;
  throw new TrainerError(
    'CONFIG_INVALID',
    `--step ${step}: ${near}; with --max-steps ${maxSteps} these steps can be replayed: ${ranges.join(', ') || 'none'}`,
  );
}

/** Makes a run folder that resumes at the origin: config, journal and one checkpoint. */
async function copyRun(runFolder: string, copy: string, { step, path }: Origin): Promise<void> {
  const [from, to] = [runPaths(runFolder), runPaths(copy)];
  try {
    await mkdir(to.checkpoints, { recursive: true });
    await cp(from.config, to.config);
    await cp(from.journal, to.journal);
    if (path !== undefined) await cp(path, join(to.checkpoints, checkpointName(step)), { recursive: true });
  } catch (error) {
    throw toStorageError(error, `copy ${basename(runFolder)} to`, copy);
  }
}

async function train(runFolder: string, steps: number, trustModules: boolean, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal, `replaying step ${steps}`);
  const args = [
    'train',
    '--resume',
    runFolder,
    '--workers',
    '1',
    '--steps',
    String(steps),
    ...(trustModules ? ['--trust-modules'] : []),
  ];
  const never = String(steps + 1);
  const settings = [`checkpoint.everySteps=${never}`, `checkpoint.keepLast=${never}`];
  const [program, ...first] = nodeCommand(EXMIX_ENTRY);
  const child = spawn(program, [...first, ...args, ...settings.flatMap((setting) => ['--set', setting])], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // SIGTERM, so that it ends in order; its folder is removed after its end.
  const stop = (): boolean => child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  let output = '';
  const keep = (text: string): void => {
    output = (output + text).split('\n').slice(-SHOWN_LINES).join('\n');
  };
  child.stdout.setEncoding('utf8').on('data', keep);
  child.stderr.setEncoding('utf8').on('data', keep);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).finally(() => signal.removeEventListener('abort', stop));
  throwIfAborted(signal, `replaying step ${steps}`);
  if (code !== 0)
    throw new TrainerError(
      'WORKER_LOST',
      `the replay ended with status ${String(code)} before step ${steps}:\n${output}`,
    );
}
