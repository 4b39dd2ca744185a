/** `exmix status`: prints the state of a run: from its coordinator if that answers, else from its journal. */
import { z } from 'zod';
import { replayJournal } from '../../coordinator/journal/journal.ts';
import { expectRun, runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { TrainerError } from '../../shared/errors.ts';
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
    const view = (await queryCoordinator(run)) ?? (await readEnding(run));
    await standardOutput.print(json ? `${JSON.stringify(view)}\n` : formatStatus(view));
  },
};

/** @returns undefined if no coordinator answers */
async function queryCoordinator(run: string): Promise<Record<string, unknown> | undefined> {
  try {
    const coordinator = await findCoordinator(run);
    return coordinator && z.record(z.string(), z.unknown()).parse(await askCoordinator(coordinator, '/status'));
  } catch {
    return undefined; // the caller reads the journal
  }
}

/** @throws PATH_UNUSABLE, JOURNAL_CORRUPT */
async function readEnding(run: string): Promise<Record<string, unknown>> {
  const { state } = await replayJournal(runPaths(run).journal);
  if (state.epoch === 0) throw new TrainerError('PATH_UNUSABLE', `${run}: the journal is empty; the run never started`);
  const { step, epoch, ending, lastCommit, lastCheckpoint, generation } = state;
  return {
    phase: ending === 'open' ? 'not running (ended without a record of its end)' : ending,
    step,
    epoch,
    ...(lastCommit?.kind === 'step-committed' ? { loss: lastCommit.loss, gradDigest: lastCommit.gradDigest } : {}),
    workers: generation?.members,
    checkpoint: lastCheckpoint?.path,
    paramDigest: lastCheckpoint?.paramDigest,
  };
}
