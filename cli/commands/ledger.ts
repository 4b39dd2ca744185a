/** `exmix ledger`: shows the examples of committed steps, audits exactly-once, and replays the gradient of a step. */
import type { Argv, CommandModule } from 'yargs';
import { expectRun } from '../../coordinator/run-folder/run-folder.ts';
import { auditLedger } from '../../coordinator/ledger/audit.ts';
import { LedgerReader } from '../../coordinator/ledger/ledger-reader.ts';
import { findTopSteps, taskNumber } from '../../coordinator/ledger/top-steps.ts';
import { formatDigest } from '../../coordinator/step/divergence.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { formatAudit } from '../ledger/describe-audit.ts';
import { describeStep, formatExamples, formatStep } from '../ledger/describe-step.ts';
import { replayStep } from '../ledger/replay-step.ts';
import { formatTable } from '../text-table.ts';
import { untilInterrupted } from '../process-signals.ts';

/** The audit found a violation, or the replay computed a different gradient. */
const EXIT_FOUND = 1;
const RUN = 'runs/base-20261123-050548';

interface RunArgument {
  run: string;
}
interface JsonArgument {
  json: boolean;
}

const withRun = (parser: Argv<object>) =>
  parser
    .positional('run', { type: 'string', demandOption: true, describe: 'Run folder, also of a run under way' })
    .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' });

/** For the commands that load the mixture of the run. */
const withTrust = <T>(parser: Argv<T>) =>
  parser.option('trust-modules', {
    type: 'boolean',
    default: false,
    describe: 'Run the TypeScript of the mixture that the run folder names',
  });

const print = (text: string): Promise<boolean> => standardOutput.print(text);
const printJson = (value: unknown): Promise<boolean> => print(`${JSON.stringify(value)}\n`);

interface ShowArguments extends RunArgument, JsonArgument {
  step: number;
  task?: string | undefined;
  text: boolean;
  'trust-modules': boolean;
}

const showCommand: CommandModule<object, ShowArguments> = {
  command: 'show <run>',
  describe: 'Shows a step: its lanes, rows and examples; tokens and loss of each task; gradient',
  builder: (parser) =>
    withTrust(withRun(parser))
      .option('step', { type: 'number', demandOption: true, describe: 'Step to show' })
      .option('task', { type: 'string', describe: 'Only the examples of this task' })
      .option('text', {
        type: 'boolean',
        default: false,
        describe: 'Show the texts of the examples as the model read them, from the prepared mixture',
      })
      .example(`$0 ledger show ${RUN} --step 120`, 'every example of step 120')
      .example(`$0 ledger show ${RUN} --step 120 --task squad --text`, 'the texts of one task'),
  handler: async ({ run, step, task, text, json, 'trust-modules': trustModules }) => {
    const reader = await LedgerReader.open(run);
    const recorded = await reader.step(step);
    const only = task === undefined ? undefined : taskNumber(recorded.header, task);
    // Loaded on demand: only --text needs a mixture.
    const { openExampleTexts } = await import('../ledger/example-texts.ts');
    const texts = text ? await openExampleTexts(run, recorded.header, trustModules) : undefined;
    try {
      const described = await describeStep(recorded, only, texts);
      if (json) await printJson(described);
      else await print(formatStep(described));
    } finally {
      texts?.close();
    }
  },
};

interface AuditArguments extends RunArgument, JsonArgument {
  from?: number | undefined;
  to?: number | undefined;
}

const auditCommand: CommandModule<object, AuditArguments> = {
  command: 'audit <run>',
  describe: 'Proves that each example came exactly once in each epoch of its task; exit status 1 on a violation',
  builder: (parser) =>
    withRun(parser)
      .option('from', { type: 'number', describe: 'First step; default: the first of the run' })
      .option('to', { type: 'number', describe: 'Last step; default: the last committed' })
      .example(`$0 ledger audit ${RUN}`, 'the whole run, across all its resumes')
      .example(`$0 ledger audit ${RUN} --from 5000 --to 6000 --json | jq .violations`, 'part of it, for a program'),
  handler: async ({ run, from, to, json }) => {
    await expectRun(run);
    const report = await untilInterrupted((signal) =>
      auditLedger({
        runFolder: run,
        signal,
        ...(from === undefined ? {} : { from }),
        ...(to === undefined ? {} : { to }),
      }),
    );
    if (json) await printJson(report);
    else await print(formatAudit(report));
    if (report.numViolations > 0) process.exitCode = EXIT_FOUND;
  },
};

interface ReplayArguments extends RunArgument, JsonArgument {
  step: number;
  'max-steps': number;
  scratch?: string | undefined;
  'trust-modules': boolean;
}

const replayCommand: CommandModule<object, ReplayArguments> = {
  command: 'replay <run>',
  describe: 'Computes the gradient of a step again, from the nearest checkpoint before it; exit status 1 if it differs',
  builder: (parser) =>
    withTrust(withRun(parser))
      .option('step', { type: 'number', demandOption: true, describe: 'Step to replay' })
      .option('max-steps', {
        type: 'number',
        default: 1000,
        describe: 'Most steps to train from the checkpoint on',
      })
      .option('scratch', { type: 'string', describe: 'Folder with room for two checkpoints; default: the system’s' })
      .example(`$0 ledger replay ${RUN} --step 120`, 'the same gradient, or the first step that differs'),
  handler: async ({ run, step, 'max-steps': maxSteps, scratch, json, 'trust-modules': trustModules }) => {
    const reader = await LedgerReader.open(run);
    const replay = await untilInterrupted((signal) =>
      replayStep({ reader, step, maxSteps, trustModules, signal, ...(scratch === undefined ? {} : { scratch }) }),
    );
    const origin = replay.checkpoint ?? 'the seed';
    const steps = replay.steps.map((each) => ({
      step: each.step,
      committed: formatDigest(each.committed),
      replayed: formatDigest(each.replayed),
    }));
    if (json) await printJson({ ...replay, steps });
    else {
      const first = steps.find(({ committed, replayed }) => committed !== replayed);
      const verdict =
        first === undefined
          ? `same: ${steps.length} gradients from ${origin} to step ${step} have the digests that were committed\n`
          : `different from step ${first.step} on (from ${origin}); only the engine that trained the run gives the same bits: exmix doctor\n`;
      await print(
        `${formatTable(
          ['step', 'committed', 'replayed'],
          steps.map((each) => [each.step, each.committed, each.replayed]),
        )}${verdict}`,
      );
    }
    if (!replay.isSame) process.exitCode = EXIT_FOUND;
  },
};

interface TopArguments extends RunArgument, JsonArgument {
  by: 'loss' | 'tokens';
  task: string;
  last: number;
  count: number;
}

const topCommand: CommandModule<object, TopArguments> = {
  command: 'top <run>',
  describe: 'The steps in which a task had its highest mean loss, or most tokens, with its examples',
  builder: (parser) =>
    withRun(parser)
      .option('by', { choices: ['loss', 'tokens'] as const, default: 'loss' as const, describe: 'Order' })
      .option('task', { type: 'string', demandOption: true, describe: 'Name of the task' })
      .option('last', { type: 'number', default: 10_000, describe: 'Number of last steps to search' })
      .option('count', { type: 'number', default: 5, describe: 'Steps to show' })
      .example(`$0 ledger top ${RUN} --by loss --task squad`, 'where squad was hardest')
      .example(`$0 ledger top ${RUN} --by tokens --task c4 --last 100`, 'in the last 100 steps'),
  handler: async ({ run, by, task, last, count, json }) => {
    for (const [flag, value] of Object.entries({ last, count }))
      if (!Number.isInteger(value) || value < 1)
        throw new TrainerError('CONFIG_INVALID', `--${flag}: expected a whole number of at least 1, got ${value}`);
    const reader = await LedgerReader.open(run);
    const { firstStep, lastStep } = reader.history;
    const from = Math.max(firstStep, lastStep + 1 - last);
    const top = await findTopSteps(reader, { by, task, from, to: lastStep, count });
    const described = [];
    // Sequential: each reads a whole segment.
    for (const { step, figures } of top) {
      const { tasks, examples } = await describeStep(await reader.step(step), figures.task);
      described.push({ step, ...tasks[0]!, listed: examples });
    }
    if (json) {
      await printJson(
        described.map(({ listed, examples, ...rest }) => ({ ...rest, numExamples: examples, examples: listed })),
      );
      return;
    }
    await print(described.length === 0 ? `${task} was in none of the steps ${from} to ${lastStep}\n` : '');
    for (const { step, examples, inputTokens, targetTokens, loss, listed } of described)
      await print(
        `step ${step}: loss ${loss?.toFixed(4) ?? '-'} nats, ${examples} examples, ${inputTokens} + ${targetTokens} tokens\n${formatExamples(listed)}\n`,
      );
  },
};

export const ledgerCommand: CommandBody = {
  builder: (parser) =>
    parser
      .command(showCommand)
      .command(auditCommand)
      .command(replayCommand)
      .command(topCommand)
      .demandCommand(1, 'expected show, audit, replay or top')
      .example(`$0 ledger audit ${RUN}`, 'each example exactly once?')
      .example(`$0 ledger show ${RUN} --step 120 --text`, 'the texts that the model read in step 120'),
  handler: () => undefined, // yargs asks for a subcommand before it comes here
};
