/** `exmix prepare`: the sources of a mixture → token shards. Safe to stop and to start again. */
import type { CommandModule } from 'yargs';
import { BAD_ROW_THRESHOLD, prepareMixture, type PreparedTaskReport } from '../../mixture/prepare/prepare-mixture.ts';
import type { TaskProgress } from '../../mixture/prepare/prepare-task.ts';
import { systemClock } from '../../shared/clock.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { formatNumber } from '../text-table.ts';

/** Pause between two lines of progress. */
const PROGRESS_INTERVAL_MS = 5_000;

interface PrepareArguments extends MixtureArguments {
  'bad-row-threshold': number;
}

export const prepareCommand: CommandModule<object, PrepareArguments> = {
  command: 'prepare',
  describe: 'Tokenizes the sources of a mixture into token shards; resumable',
  builder: (parser) =>
    addMixtureOptions(parser)
      .option('bad-row-threshold', {
        type: 'number',
        default: BAD_ROW_THRESHOLD,
        describe: 'Largest share of malformed rows of a task, 0 to 1',
      })
      .example(
        '$0 prepare --mixture exmix.yaml --out /data/exmix',
        'all tasks of exmix.yaml, for rows of 512 and 114 tokens',
      ),
  handler: async (args) => {
    const { mixture, featureLengths, folder } = chooseMixture(args);
    const interrupt = new AbortController();
    const stop = (signal: string): void => interrupt.abort(signal);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
    const { inputs, targets } = featureLengths;
    process.stdout.write(`preparing ${mixture.name} (inputs ${inputs}, targets ${targets} tokens) in ${folder}\n`);
    let lineAt = systemClock.monotonicMs();
    try {
      const report = await prepareMixture({
        mixture,
        featureLengths,
        outDir: folder,
        badRowThreshold: args['bad-row-threshold'],
        signal: interrupt.signal,
        onTask: (task) => process.stdout.write(describeTask(task)),
        onProgress: (progress) => {
          if (systemClock.monotonicMs() - lineAt < PROGRESS_INTERVAL_MS) return;
          lineAt = systemClock.monotonicMs();
          process.stderr.write(describeProgress(progress));
        },
      });
      process.stdout.write(`prepared ${report.folder}\nhash ${report.hash}\n`);
    } finally {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.removeListener(signal, stop);
    }
  },
};

function describeTask({ name, outcome, reason, manifest }: PreparedTaskReport): string {
  const { truncated, malformed, numExamples, numTokens } = manifest;
  const facts = [`${formatNumber(numExamples)} examples`, `${formatNumber(numTokens)} tokens`];
  if (truncated.inputs > 0) facts.push(`${formatNumber(truncated.inputs)} inputs cut`);
  if (truncated.targets > 0) facts.push(`${formatNumber(truncated.targets)} targets cut`);
  const shown = malformed.first.map(({ file, line, reason: why }) => `    ${file}:${line}: ${why}\n`).join('');
  if (malformed.numRows > 0) facts.push(`${formatNumber(malformed.numRows)} malformed rows left out, the first:`);
  return `  ${outcome} ${name}: ${facts.join(', ')}${reason === undefined ? '' : ` (${reason})`}\n${shown}`;
}

function describeProgress({ task, bytesRead, totalBytes, numExamples }: TaskProgress): string {
  const percent = totalBytes === 0 ? 100 : Math.floor((100 * bytesRead) / totalBytes);
  return `  ${task}: ${percent}% of the source read, ${formatNumber(numExamples)} examples\n`;
}
