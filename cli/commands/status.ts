/** `exmix status`: prints the state of a run: from its coordinator if that answers, else from its journal. */
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { replayJournal } from '../../coordinator/journal/journal.ts';
import { runPaths, expectRun } from '../../coordinator/run-folder/run-folder.ts';
import { withRegularFile } from '../../shared/atomic-file.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { visibleText } from '../../shared/visible-text.ts';
import type { JournalState } from '../../coordinator/journal/journal-records.ts';
import { viewValidations } from '../../coordinator/validation/validator.ts';
import { inspectRunLock, type LockView } from '../../coordinator/run-folder/run-lock.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { askCoordinator, findCoordinator } from '../coordinator-client.ts';
import { formatStatus } from '../format-status.ts';

interface StatusArguments {
  run: string;
  json: boolean;
}

export const statusCommand: CommandBody<StatusArguments> = {
  builder: (parser) =>
    parser
      .positional('run', { type: 'string', demandOption: true, describe: 'Run folder' })
      .option('json', { type: 'boolean', default: false, describe: 'Print JSON' })
      .example('$0 status runs/demo-20261123-120000', 'phase, step, loss, workers'),
  handler: async ({ run, json }) => {
    await expectRun(run);
    const answer = await queryCoordinator(run);
    const view = typeof answer === 'string' ? await readEnding(run, answer) : answer;
    await standardOutput.print(json ? `${JSON.stringify(view)}\n` : visibleText(formatStatus(view)));
  },
};

/** @returns the sentence why there is no answer, where there is none */
async function queryCoordinator(run: string): Promise<Record<string, unknown> | string> {
  try {
    const coordinator = await findCoordinator(run);
    if (coordinator === undefined) return 'no coordinator has listened for it';
    return z.record(z.string(), z.unknown()).parse(await askCoordinator(coordinator, '/status'));
  } catch (error) {
    return toTrainerError(error).message;
  }
}

/**
 * The phase of a run whose coordinator does not answer. Pure. A run is called dead only where its lock proves it: a coordinator on another
 * host may be alive and out of reach.
 * @param lock undefined where the run folder has none
 */
export function describeUnanswered(
  ending: JournalState['ending'],
  lock: LockView | undefined,
  unanswered: string,
): string {
  if (ending !== 'open') return ending;
  if (lock === undefined) return 'not running (ended without a record of its end)';
  if (lock.death !== undefined) return `not running (ended without a record of its end; ${lock.owner}: ${lock.death})`;
  return `not reached (${unanswered}; ${lock.owner} may still coordinate it; ask on that host, or start it with --advertise)`;
}

/** Of `checkpoint.keepBest`, where no summary says which one the run has. */
const DEFAULT_METRIC = 'mean';

/** @param unanswered why the coordinator does not answer @throws PATH_UNUSABLE, JOURNAL_CORRUPT */
async function readEnding(run: string, unanswered: string): Promise<Record<string, unknown>> {
  const lock = await inspectRunLock(run);
  const { state } = await replayJournal(runPaths(run).journal);
  if (state.epoch === 0) throw new TrainerError('PATH_UNUSABLE', `${run}: the journal is empty; the run never started`);
  const { step, epoch, ending, lastCommit, lastCheckpoint, generation, validations } = state;
  const summary = await readSummary(runPaths(run).log, { step, epoch });
  return {
    phase: describeUnanswered(ending, lock, unanswered),
    step,
    epoch,
    ...(lastCommit?.kind === 'step-committed' ? { loss: lastCommit.loss, gradDigest: lastCommit.gradDigest } : {}),
    workers: generation?.members,
    checkpoint: lastCheckpoint?.path,
    paramDigest: lastCheckpoint?.paramDigest,
    validation: viewValidations(validations, DEFAULT_METRIC),
    ...summary,
  };
}

/** The summary stands among the last lines of the log, bytes. */
const LOG_END_BYTES = 1024 * 1024;

/** Fields of a log record that are not of the summary. */
const OF_EVERY_RECORD = ['msg', 'level', 'time'];

const summaryRecord = z.looseObject({ msg: z.literal('run summary'), epoch: z.int(), step: z.int() });

/** The summary of the session that ended at this place; empty where the log has none: the session was killed, or the log is gone. */
async function readSummary(log: string, at: { readonly epoch: number; readonly step: number }): Promise<object> {
  for (const line of (await readEnd(log)).split('\n').reverse()) {
    const { data } = summaryRecord.safeParse(parseJson(line));
    if (data === undefined || data.epoch !== at.epoch || data.step !== at.step) continue;
    return Object.fromEntries(Object.entries(data).filter(([name]) => !OF_EVERY_RECORD.includes(name)));
  }
  return {};
}

/** The last LOG_END_BYTES of a log; empty if it cannot be read: the journal alone tells the state. */
async function readEnd(path: string): Promise<string> {
  const read = async (file: FileHandle): Promise<string> => {
    const { size } = await file.stat();
    const end = Buffer.alloc(Math.min(size, LOG_END_BYTES));
    const { bytesRead } = await file.read(end, 0, end.length, size - end.length);
    return end.toString('utf8', 0, bytesRead);
  };
  return withRegularFile(path, read).catch(() => '');
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // a line of which only the end was read
  }
}
