/** `exmix mixture show`: shares, passes and losses of a run's tasks, from its coordinator while it trains, else from its folder. */
import type { CommandModule } from 'yargs';
import { expectRun } from '../../coordinator/run-folder/run-folder.ts';
import { readMixtureReport } from '../../coordinator/steering/steering-history.ts';
import { MAX_STEPS, mixtureReportSchema, type MixtureReport } from '../../coordinator/steering/steering-report.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import { askCoordinator, findCoordinator, isCoordinatorUrl } from '../coordinator-client.ts';
import { formatNumber, formatTable } from '../text-table.ts';

interface ShowArguments {
  run: string;
  last: number;
  'token-file'?: string | undefined;
  json: boolean;
}

export const showCommand: CommandModule<object, ShowArguments> = {
  command: 'show <run>',
  describe: 'Planned and actual shares, passes over each task and losses of a run',
  builder: (parser) =>
    parser
      .positional('run', { type: 'string', demandOption: true, describe: "Run folder, or its coordinator's URL" })
      .option('last', {
        type: 'number',
        default: 100,
        describe: `Losses are means of so many steps, at most ${MAX_STEPS}`,
      })
      .option('token-file', { type: 'string', describe: 'File with the token, for a URL; default: $EXMIX_TOKEN' })
      .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' })
      .example('$0 mixture show runs/demo-20261123-120000 --last 50', 'losses over the last 50 steps'),
  handler: async ({ run, last, 'token-file': tokenFile, json }) => {
    if (!Number.isInteger(last) || last < 1 || last > MAX_STEPS)
      throw new TrainerError('CONFIG_INVALID', `--last: expected a whole number from 1 to ${MAX_STEPS}, got ${last}`);
    const report = (await askLive(run, last, tokenFile)) ?? (await readMixtureReport(run, last));
    await standardOutput.print(json ? `${JSON.stringify(report)}\n` : format(report));
  },
};

/** @returns undefined if the run does not train and its folder is known */
async function askLive(run: string, last: number, tokenFile: string | undefined): Promise<MixtureReport | undefined> {
  if (!isCoordinatorUrl(run)) await expectRun(run);
  const coordinator = await findCoordinator(run, tokenFile);
  if (coordinator === undefined) return undefined;
  try {
    return mixtureReportSchema.parse(await askCoordinator(coordinator, `/mixture?last=${last}`));
  } catch (error) {
    const codes = ['CONNECT_FAILED', 'AUTH_FAILED', 'RUN_NOT_TRAINING'];
    if (!isCoordinatorUrl(run) && error instanceof TrainerError && codes.includes(error.code)) return undefined;
    throw error;
  }
}

function format({ step, draws, window, losses, rateChanges, tasks }: MixtureReport): string {
  const head = ['task', 'examples', '% planned', '% actual', 'draws', 'passes', 'loss', 'target tokens'];
  const rows = tasks.map((task) => [
    task.name,
    task.numExamples,
    100 * task.plannedShare,
    100 * task.actualShare,
    task.draws,
    task.passes,
    task.loss === null ? '-' : task.loss.toFixed(4),
    task.targetTokens,
  ]);
  const range =
    losses === null
      ? 'no step yet'
      : `losses and target tokens: ${losses.numSteps} steps, ${losses.firstStep} to ${losses.lastStep}`;
  const changes = rateChanges.map(
    (change) => `rates ${change.window <= window ? 'changed' : 'will change'} at step ${change.firstStep}\n`,
  );
  return (
    formatTable(head, rows) +
    `after step ${formatNumber(step)}: ${formatNumber(draws)} draws; planned: shares of the current window; ${range}\n` +
    changes.join('')
  );
}
