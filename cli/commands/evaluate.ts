/** `exmix evaluate`: how good a model is on the evaluation sets of its tasks; `compare`: two results. */
import { join, resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import { compareSets } from '../../evaluation/compare-results.ts';
import { checkpointName } from '../../shared/checkpoint/layout.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { SplitName } from '../../mixture/tasks/task.ts';
import type { CommandBody } from '../command-body.ts';
import {
  EVALUATION_FOLDER,
  findEvaluatedModel,
  readEvaluatedCheckpoint,
  type EvaluatedModel,
} from '../evaluate/evaluated-model.ts';
import { chooseSets } from '../evaluate/evaluated-sets.ts';
import { ALREADY_EVALUATED, followRun } from '../evaluate/follow-run.ts';
import { formatComparison, formatResultTable } from '../evaluate/format-results.ts';
import type { FollowedCheckpoint } from '../evaluate/next-checkpoint.ts';
import { readResults, readResultsIfThere, readSide, timeKey } from '../evaluate/result-files.ts';
import { isEvaluated, runEvaluate, type RunEvaluateInit } from '../evaluate/run-evaluate.ts';
import {
  readGenerationConfig,
  resolveDecoding,
  withDecodingFlags,
  type DecodingFlags,
} from '../generate/decoding-flags.ts';
import {
  checkCount,
  resolveWorkers,
  withWorkerFlags,
  type ResolvedWorkers,
  type WorkerFlags,
} from '../launch/worker-flags.ts';
import { splitNames } from '../mixture-options.ts';
import { untilInterrupted } from '../process-signals.ts';

/** Changed examples of a set that `compare` shows. */
const SHOWN_CHANGES = 5;

interface EvaluateArguments extends DecodingFlags, WorkerFlags {
  folder: string;
  follow: boolean;
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
  out?: string | undefined;
}

const folderCommand: CommandModule<object, EvaluateArguments> = {
  command: '$0 <folder>',
  describe: 'Scores a model on the validation or test sets of its tasks',
  builder: (parser) =>
    withDecodingFlags(
      withWorkerFlags(
        parser
          .positional('folder', {
            type: 'string',
            demandOption: true,
            describe: 'Run folder (its newest checkpoint), checkpoint, or a T5 of Hugging Face',
          })
          .option('follow', {
            type: 'boolean',
            default: false,
            describe: 'Every checkpoint of the run as it is published, until the run has finished',
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
          .option('loss-only', {
            type: 'boolean',
            default: false,
            describe: 'Loss, perplexity and token accuracy alone',
          })
          .option('inputs-length', { type: 'number', describe: "Longest inputs, tokens; default: the run's" })
          .option('targets-length', { type: 'number', describe: "Longest targets, tokens; default: the run's" })
          .option('tokenizer', {
            type: 'string',
            describe: 'spiece.model, tokenizer.json or bytes; default that of the folder',
          })
          .option('trust-modules', {
            type: 'boolean',
            default: false,
            describe: 'Run the TypeScript of a mixture that only the checkpoint names',
          })
          .option('out', {
            type: 'string',
            describe: 'Folder of the results; default: evaluation/step-<n> of the run',
          }),
      ),
    )
      .example('$0 evaluate runs/demo-20261130-120000 --workers 2', 'the newest checkpoint on its validation sets')
      .example('$0 evaluate --follow runs/a --workers 2', 'every checkpoint as it is published, on workers of its own')
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
  const { follow: isFollowing, workers, split } = args;
  // Each checkpoint has a coordinator of its own: workers of other hosts leave after it, and nobody starts them again.
  checkCount('--workers', workers, isFollowing ? 1 : 0);
  for (const flag of ['max-examples', 'inputs-length', 'targets-length'] as const)
    if (args[flag] !== undefined) checkCount(`--${flag}`, args[flag], 1);
  if (isFollowing) {
    await follow(args, signal);
    return;
  }
  const { model, resultsFolder } = await findEvaluatedModel(args.folder, signal);
  const resolved = await resolveHere(args);
  const work = await chooseWork(args, model, signal);
  const outDir = resolve(args.out ?? ofSplit(resultsFolder, split));
  await evaluateAndPrint({ ...initOf(args, resolved, signal), ...work, model, outDir });
}

async function follow(args: EvaluateArguments, signal: AbortSignal): Promise<void> {
  const { out, split } = args;
  const runFolder = resolve(args.folder);
  const resultsFolder = resolve(out ?? join(runFolder, EVALUATION_FOLDER));
  const outDirOf = ({ step }: FollowedCheckpoint): string => ofSplit(join(resultsFolder, checkpointName(step)), split);
  const resolved = await resolveHere(args);
  let chosen: { readonly from: string; readonly work: ChosenWork } | undefined;
  await followRun({
    ...{ runFolder, resultsFolder, clock: systemClock, onLine, signal },
    hasResults: async (checkpoint) =>
      (await readResultsIfThere(outDirOf(checkpoint)))?.paramDigest === checkpoint.paramDigest,
    async evaluate(folder, checkpoint, untilStopped) {
      const model = await readEvaluatedCheckpoint(folder, untilStopped);
      const { mixture, featureLengths } = model.trained!.config;
      const from = JSON.stringify([mixture, featureLengths]); // a resumed run may have another mixture
      if (chosen?.from !== from) chosen = { from, work: await chooseWork(args, model, untilStopped) };
      const outDir = outDirOf(checkpoint);
      const init = { ...initOf(args, resolved, untilStopped), ...chosen.work, model, outDir };
      if (await isEvaluated(init)) return { kind: 'skipped', reason: ALREADY_EVALUATED };
      await standardOutput.print(`step ${checkpoint.step}\n`);
      await evaluateAndPrint(init);
      return { kind: 'evaluated' };
    },
  });
}

function onLine(line: string): void {
  standardError.write(`${line}\n`);
}

function ofSplit(resultsFolder: string, split: SplitName): string {
  return split === 'test' ? `${resultsFolder}-test` : resultsFolder;
}

async function resolveHere(args: EvaluateArguments): Promise<ResolvedWorkers> {
  const resolved = await resolveWorkers(args, 'evaluate');
  resolved.notes.forEach(onLine);
  return resolved;
}

type ChosenWork = Pick<RunEvaluateInit, 'sets' | 'tokenizer' | 'decoding'>;

async function chooseWork(args: EvaluateArguments, model: EvaluatedModel, signal: AbortSignal): Promise<ChosenWork> {
  const { split, 'max-examples': maxExamples, tasks } = args;
  const decoding = args['loss-only'] ? undefined : resolveDecoding(args, await readGenerationConfig(model.folder));
  onLine(`${model.folder}: ${decoding === undefined ? 'scores only' : JSON.stringify(decoding)}`);
  const { sets, tokenizer } = await chooseSets({
    ...{ model, tasks, split, maxExamples, onLine, signal },
    ...{ mixture: args.mixture, given: args.given, tokenizer: args.tokenizer },
    inputsLength: args['inputs-length'],
    targetsLength: args['targets-length'],
    trustModules: args['trust-modules'],
  });
  return { sets, tokenizer, decoding };
}

/** What is the same for each model. */
function initOf(
  args: EvaluateArguments,
  { config, newWorkerHost, token }: ResolvedWorkers,
  signal: AbortSignal,
): Omit<RunEvaluateInit, 'model' | 'outDir' | keyof ChosenWork> {
  const { 'batch-tokens': batchTokens, 'max-examples': maxExamples } = args;
  return { batchTokens, maxExamples, config, onLine, signal, token, workerHost: newWorkerHost() };
}

async function evaluateAndPrint(init: RunEvaluateInit): Promise<void> {
  const { results, times } = await runEvaluate(init);
  await standardOutput.print(`${formatResultTable(results, times)}${init.outDir}\n`);
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
