/** `exmix evaluate`: how good a model is on the evaluation sets of its tasks; `compare`: two results. */
import { resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import { NO_LOCAL_WORKERS } from '../../coordinator/membership/worker-host.ts';
import { compareSets } from '../../evaluation/compare-results.ts';
import { checkEvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { SplitName } from '../../mixture/tasks/task.ts';
import { checkEngineName, ENGINE_NAMES } from '../../worker/engine-choice/choose-engine.ts';
import type { CommandBody } from '../command-body.ts';
import { findEvaluatedModel } from '../evaluate/evaluated-model.ts';
import { chooseSets } from '../evaluate/evaluated-sets.ts';
import { formatComparison, formatResultTable } from '../evaluate/format-results.ts';
import { readResults, readSide, timeKey } from '../evaluate/result-files.ts';
import { runEvaluate } from '../evaluate/run-evaluate.ts';
import {
  readGenerationConfig,
  resolveDecoding,
  withDecodingFlags,
  type DecodingFlags,
} from '../generate/decoding-flags.ts';
import { createLocalWorkers, resolveOnThisHost } from '../launch/create-local-workers.ts';
import { splitNames } from '../mixture-options.ts';
import { untilInterrupted } from '../process-signals.ts';
import { givenToken } from '../token.ts';

/** Workers whose coordinator is gone dial for so long, ms: the same command may be started again. */
const COORDINATOR_GRACE_MS = 60_000;
/** Changed examples of a set that `compare` shows. */
const SHOWN_CHANGES = 5;

interface EvaluateArguments extends DecodingFlags {
  folder: string;
  mixture?: string | undefined;
  tasks?: string[] | undefined;
  given?: string | undefined;
  split: SplitName;
  'max-examples'?: number | undefined;
  'loss-only': boolean;
  'inputs-length'?: number | undefined;
  'targets-length'?: number | undefined;
  tokenizer?: string | undefined;
  'trust-modules': boolean;
  engine: string;
  device: 'auto' | 'cpu' | 'gpu';
  threads: number;
  workers: number;
  'batch-tokens': number;
  out?: string | undefined;
  listen?: string | undefined;
  advertise?: string | undefined;
  port?: number | undefined;
  'token-file'?: string | undefined;
}

const folderCommand: CommandModule<object, EvaluateArguments> = {
  command: '$0 <folder>',
  describe: 'Scores a model on the validation or test sets of its tasks',
  builder: (parser) =>
    withDecodingFlags(
      parser
        .positional('folder', {
          type: 'string',
          demandOption: true,
          describe: 'Run folder (its newest checkpoint), checkpoint, or a T5 of Hugging Face',
        })
        .option('mixture', {
          type: 'string',
          describe: 'demo, exmix, or a mixture.yaml; default: that of the run',
        })
        .option('tasks', {
          type: 'string',
          array: true,
          nargs: 1,
          describe: "Only these tasks, by name or glob: --tasks 'super_glue_*,squad_v1'",
          coerce: (given: string | string[] | undefined) => (given === undefined ? undefined : splitNames(given)),
        })
        .option('given', { type: 'string', describe: 'Folder with files of sets that no hub offers' })
        .option('split', {
          choices: ['validation', 'test'] as const,
          default: 'validation' as const,
          describe: 'Split',
        })
        .option('max-examples', { type: 'number', describe: 'Only the first so many examples of each set' })
        .option('loss-only', { type: 'boolean', default: false, describe: 'Loss, perplexity and token accuracy alone' })
        .option('inputs-length', { type: 'number', describe: "Longest inputs, tokens; default: the run's" })
        .option('targets-length', { type: 'number', describe: "Longest targets, tokens; default: the run's" })
        .option('tokenizer', { type: 'string', describe: 'spiece.model, tokenizer.json or bytes; default that of the folder' })
        .option('trust-modules', {
          type: 'boolean',
          default: false,
          describe: 'Run the TypeScript of a mixture that only the checkpoint names',
        })
        .option('engine', { choices: ENGINE_NAMES, default: 'auto', describe: 'Engine' })
        .option('device', { choices: ['auto', 'cpu', 'gpu'] as const, default: 'auto' as const, describe: 'Device' })
        .option('threads', { type: 'number', default: 1, describe: 'CPU threads of the native engine; 0: all cores' })
        .option('workers', { type: 'number', default: 1, describe: 'Worker processes of this host; 0: only others' })
        .option('batch-tokens', { type: 'number', default: 8_192, describe: 'Most tokens that are computed together' })
        .option('out', { type: 'string', describe: 'Folder of the results; default: evaluation/step-<n> of the run' })
        .option('listen', { type: 'string', describe: 'Address to bind, for workers of other hosts' })
        .option('advertise', { type: 'string', describe: 'Name or address at which other hosts reach this one' })
        .option('port', { type: 'number', describe: 'Port to bind; default: any free port' })
        .option('token-file', {
          type: 'string',
          describe: 'File with the token; default: $EXMIX_TOKEN, else a new one',
        }),
    )
      .example('$0 evaluate runs/demo-20261130-120000 --workers 2', 'the newest checkpoint on its validation sets')
      .example("$0 evaluate flan-t5-small --mixture exmix --tasks 'super_glue_*' --num-beams 4", 'any T5'),
  handler: (args) => untilInterrupted((signal) => evaluate(args, signal)),
};

const compareCommand: CommandModule<object, { a: string; b: string; json: boolean }> = {
  command: 'compare <a> <b>',
  describe: 'Compares two results of the same examples: differences, intervals, changed predictions',
  builder: (parser) =>
    parser
      .positional('a', { type: 'string', demandOption: true, describe: 'Folder of results' })
      .positional('b', { type: 'string', demandOption: true, describe: 'Folder of results' })
      .option('json', { type: 'boolean', default: false, describe: 'Print JSON, with every changed example' })
      .example('$0 evaluate compare runs/a/evaluation/step-100 runs/a/evaluation/step-200', 'two checkpoints'),
  handler: compare,
};

export const evaluateCommand: CommandBody = {
  builder: (parser) => parser.command(folderCommand).command(compareCommand),
  handler: () => undefined, // its subcommands act
};

async function evaluate(args: EvaluateArguments, signal: AbortSignal): Promise<void> {
  const { workers, split, 'batch-tokens': batchTokens, 'max-examples': maxExamples, tasks } = args;
  checkCount('--workers', workers, 0);
  checkCount('--batch-tokens', batchTokens, 1);
  for (const flag of ['max-examples', 'inputs-length', 'targets-length'] as const)
    if (args[flag] !== undefined) checkCount(`--${flag}`, args[flag], 1);
  checkEngineName(args.engine);
  const onLine = (line: string): void => {
    standardError.write(`${line}\n`);
  };
  const model = await findEvaluatedModel(args.folder, signal);
  const decoding = args['loss-only'] ? undefined : resolveDecoding(args, await readGenerationConfig(model.folder));
  const { engine, device, threads } = args;
  const asked = checkEvaluationConfig(
    {
      compute: { engine, device, threads },
      cluster: {
        coordinatorGraceMs: COORDINATOR_GRACE_MS,
        ...(args.listen === undefined ? {} : { listenHost: args.listen }),
        ...(args.advertise === undefined ? {} : { advertiseHost: args.advertise }),
        ...(args.port === undefined ? {} : { listenPort: args.port }),
      },
    },
    'evaluate',
  );
  const { config, resolved } = await resolveOnThisHost(asked, Math.max(1, workers));
  for (const note of [resolved.reason, ...resolved.notes]) onLine(note);
  onLine(`${model.folder}: ${decoding === undefined ? 'scores only' : JSON.stringify(decoding)}`);
  const { sets, tokenizer } = await chooseSets({
    ...{ model, tasks, split, maxExamples, onLine, signal },
    ...{ mixture: args.mixture, given: args.given, tokenizer: args.tokenizer },
    inputsLength: args['inputs-length'],
    targetsLength: args['targets-length'],
    trustModules: args['trust-modules'],
  });
  const outDir = resolve(args.out ?? (split === 'test' ? `${model.resultsFolder}-test` : model.resultsFolder));
  const { results, times } = await runEvaluate({
    ...{ model, sets, tokenizer, decoding, batchTokens, maxExamples, config, outDir, onLine, signal },
    workerHost: workers === 0 ? NO_LOCAL_WORKERS : createLocalWorkers(workers),
    token: await givenToken(args['token-file']),
  });
  await standardOutput.print(`${formatResultTable(results, times)}${outDir}\n`);
}

async function compare({ a, b, json }: { a: string; b: string; json: boolean }): Promise<void> {
  const [left, right] = [await readResults(a), await readResults(b)];
  const others = new Map(right.sets.map((set) => [timeKey(set), set]));
  const shared = left.sets.filter((set) => others.has(timeKey(set)));
  if (shared.length === 0)
    throw new TrainerError(
      'METRIC_INPUT_INVALID',
      `expected a set that both results have, found ${[...left.sets].map(timeKey).join(', ')} in ${a} and ${[...others.keys()].join(', ')} in ${b}`,
    );
  for (const [folder, sets] of [
    [a, left.sets],
    [b, right.sets],
  ] as const)
    // prettier-ignore
    for (const set of sets)
      if (!shared.some((one) => timeKey(one) === timeKey(set)))
        standardError.write(`${timeKey(set)} is only in ${folder}: left out\n`);
  const comparisons = [];
  for (const set of shared)
    comparisons.push(compareSets(await readSide(a, set), await readSide(b, others.get(timeKey(set))!)));
  await standardOutput.print(
    json ? `${JSON.stringify(comparisons, null, 2)}\n` : formatComparison(comparisons, SHOWN_CHANGES),
  );
}

/** @throws CONFIG_INVALID */
function checkCount(flag: string, value: number, least: number): void {
  if (Number.isInteger(value) && value >= least) return;
  throw new TrainerError('CONFIG_INVALID', `${flag}: expected a whole number from ${least}, got ${value}`);
}
