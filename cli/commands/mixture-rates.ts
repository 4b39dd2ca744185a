/** `exmix mixture rates`, the default subcommand: rate and expected passes of each task of a prepared mixture. */
import type { CommandModule } from 'yargs';
import { computeRates, expectedEpochs, PAPER_RATES } from '../../mixture/plan/rates.ts';
import { readManifests } from '../../mixture/prepare/read-manifests.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { formatNumber, formatTable } from '../text-table.ts';

interface MixtureCommandArguments extends MixtureArguments {
  'rate-cap': number;
  temperature: number;
  'denoising-ratio': number;
  draws: number;
  json: boolean;
}

export const ratesCommand: CommandModule<object, MixtureCommandArguments> = {
  command: ['rates', '$0'],
  describe: 'Sizes, rates and expected passes of the tasks of a prepared mixture',
  builder: (parser) =>
    addMixtureOptions(parser)
      .option('rate-cap', {
        type: 'number',
        default: PAPER_RATES.cap,
        describe: 'K: largest number of examples that counts for a task',
      })
      .option('temperature', {
        type: 'number',
        default: PAPER_RATES.temperature,
        describe: 'Rates are raised to 1/temperature',
      })
      .option('denoising-ratio', {
        type: 'number',
        default: PAPER_RATES.denoisingRatio,
        describe: 'R: denoising examples per supervised example',
      })
      .option('draws', {
        type: 'number',
        default: 1_000_000,
        describe: 'Total examples drawn; determines the expected passes',
      })
      .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' })
      .example(
        '$0 mixture --draws 100000 --denoising-ratio 0.5',
        'passes over the demo tasks in a run of 100,000 examples',
      ),
  handler: async (args) => {
    if (!Number.isSafeInteger(args.draws) || args.draws < 1)
      throw new TrainerError('CONFIG_INVALID', `--draws: expected a whole number of at least 1, got ${args.draws}`);
    const { mixture, folder } = chooseMixture(args);
    const prepared = await readManifests(folder);
    if (prepared === undefined)
      throw new TrainerError(
        'PATH_UNUSABLE',
        `${folder}: expected the prepared mixture ${mixture.name}, found none; run "exmix prepare" with the same options`,
      );
    const sizes = [...prepared.tasks].map(([name, { identity, numExamples }]) => ({
      name,
      kind: identity.kind,
      numExamples,
    }));
    const rates = computeRates(sizes, {
      cap: args['rate-cap'],
      temperature: args.temperature,
      denoisingRatio: args['denoising-ratio'],
      overrides: {},
    });
    const tasks = rates.map((rate) => ({
      name: rate.name,
      kind: rate.kind,
      numExamples: rate.numExamples,
      numTokens: prepared.tasks.get(rate.name)!.numTokens,
      exmixShare: rate.exmixShare,
      share: rate.share,
      expectedPasses: expectedEpochs(rate, args.draws),
    }));
    if (args.json) {
      await standardOutput.print(
        `${JSON.stringify({ name: mixture.name, hash: prepared.hash, folder, draws: args.draws, tasks })}\n`,
      );
      return;
    }
    const head = ['task', 'kind', 'examples', 'tokens', '% of ExMix', '% of draws', 'passes'];
    const rows = tasks.map((task) => [
      task.name,
      task.kind,
      task.numExamples,
      task.numTokens,
      100 * task.exmixShare,
      100 * task.share,
      task.expectedPasses,
    ]);
    await standardOutput.print(
      `${formatTable(head, rows)}passes: expected in ${formatNumber(args.draws)} draws\nhash ${prepared.hash}\n`,
    );
  },
};
