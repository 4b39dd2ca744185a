/** `exmix finetune`: trains a model that exists on tasks by T5's recipe, evaluates, and keeps the best checkpoint by validation. */
import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { folderTime } from '../../coordinator/run-folder/run-folder.ts';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { systemClock } from '../../shared/clock.ts';
import {
  checkConfig,
  loadTree,
  overrideTree,
  parseSetting,
  type ConfigOverride,
  type Tree,
} from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { ensurePrepared } from '../ensure-prepared.ts';
import { DEFAULT_STEPS, finetuneTree, stepsOfPass, withValidation } from '../finetune/finetune-config.ts';
import { describeSearch, parseSearch, type SearchedRun } from '../finetune/search.ts';
import { readSourceOfModel } from '../finetune/source-of-model.ts';
import { fillModel } from '../init/fill-model.ts';
import { createLocalWorkers, resolveOnThisHost } from '../launch/create-local-workers.ts';
import { mixtureFile } from '../mixture-options.ts';
import { untilInterrupted } from '../process-signals.ts';
import { namesMixture, storedConfigOf } from '../run-options.ts';

interface FinetuneArguments {
  folder: string;
  task: string[];
  mixture?: string | undefined;
  config?: string | undefined;
  steps?: number | undefined;
  seed?: number | undefined;
  workers: number;
  engine?: string | undefined;
  device?: string | undefined;
  'run-dir'?: string | undefined;
  search?: string | undefined;
  'trust-modules': boolean;
  set: string[];
}

export const finetuneCommand: CommandBody<FinetuneArguments> = {
  builder: (parser) =>
    parser
      .positional('folder', {
        type: 'string',
        demandOption: true,
        describe: 'Run folder, checkpoint, or a T5 of Hugging Face',
      })
      .option('task', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Task or glob of the mixture; repeatable; default: all',
      })
      .option('mixture', {
        type: 'string',
        describe: 'mixture.yaml, demo or exmix; default: that of the run that made the model',
      })
      .option('config', { type: 'string', describe: 'Config file (YAML) over the recipe; it may hold any part' })
      .option('steps', { type: 'number', describe: `Optimizer steps; default ${DEFAULT_STEPS}` })
      .option('seed', { type: 'number', describe: 'Seed of every random choice' })
      .option('workers', { type: 'number', default: 2, describe: 'Worker processes' })
      .option('engine', { type: 'string', describe: 'auto, native, wasm or cpu' })
      .option('device', { type: 'string', describe: 'auto, cpu or gpu' })
      .option('run-dir', {
        type: 'string',
        describe: 'Run folder; default runs/finetune-<tasks>-<time>. The same one continues',
      })
      .option('search', {
        type: 'string',
        describe: 'lr=1e-3,1e-4: a run for each learning rate; the best is that of validation',
      })
      .option('trust-modules', {
        type: 'boolean',
        default: false,
        describe: 'Run the TypeScript of a mixture that only the folder names',
      })
      .option('set', {
        type: 'string',
        array: true,
        default: [],
        describe: 'Any setting: --set training.rowsPerStep=32',
      })
      .example('$0 finetune runs/demo-20261123-120000 --task country_qa --steps 300', 'from its newest checkpoint')
      .example('$0 finetune google-flan-folder --config rte.yaml --workers 4', 'a T5 of Hugging Face'),
  handler: async (args) => {
    const { workers } = args;
    if (!Number.isInteger(workers) || workers < 1)
      throw new TrainerError('CONFIG_INVALID', `--workers: expected a whole number of at least 1, got ${workers}`);
    const rates = args.search === undefined ? undefined : parseSearch(args.search);
    if (args.search !== undefined && rates === undefined)
      throw new TrainerError(
        'CONFIG_INVALID',
        `--search: expected lr=RATE,RATE,… with distinct numbers above 0, got ${args.search}`,
      );
    const plan = await planFinetune(args);
    if (rates === undefined) {
      await train(plan, args, plan.runDir, []);
      return;
    }
    const runs: SearchedRun[] = [];
    for (const rate of rates) {
      const runDir = join(plan.runDir, `lr-${rate}`);
      const schedule = { path: ['schedule'], value: { kind: 'constant', value: rate }, origin: '--search' };
      const { summary, isDone } = await train(plan, args, runDir, [schedule]);
      if (!isDone) return; // the same command continues
      runs.push({ rate, runDir, best: summary.validation?.best });
    }
    standardOutput.write(describeSearch(runs));
  },
};

interface FinetunePlan {
  readonly tree: Tree;
  readonly runDir: string;
  /** The stored config that names the mixture, where the user named none. */
  readonly mixtureNamedBy: string | undefined;
}

async function planFinetune(args: FinetuneArguments): Promise<FinetunePlan> {
  const { folder, task: tasks } = args;
  const source = await readSourceOfModel(folder);
  const file = args.config === undefined ? undefined : await loadTree(args.config, []);
  const name = `finetune-${tasks.length === 0 ? 'all' : tasks.join('-').replaceAll(/[^A-Za-z0-9._-]/gu, '_')}`;
  const ofFlags: [string[], unknown, string][] = [
    [['mixture', 'path'], args.mixture === undefined ? undefined : mixtureFile(args.mixture), '--mixture'],
    [['training', 'steps'], args.steps, '--steps'],
    [['seed'], args.seed, '--seed'],
    [['compute', 'engine'], args.engine, '--engine'],
    [['compute', 'device'], args.device, '--device'],
    [['cluster', 'startWorkers'], args.workers, '--workers'],
  ];
  const flags: ConfigOverride[] = ofFlags
    .filter(([, value]) => value !== undefined)
    .map(([path, value, origin]) => ({ path, value, origin }));
  const settings = args.set.map(parseSetting);
  const made = finetuneTree({ from: resolve(folder), name, origin: source.config, file, tasks });
  const tree = overrideTree(made, [...settings, ...flags]);
  const isNamedByFlag = args['trust-modules'] || [...settings, ...flags].some(namesMixture);
  const isNamedByFile = (file?.['mixture'] as Tree | undefined)?.['path'] !== undefined;
  const runDir = args['run-dir'] ?? join('runs', `${String(tree['name'])}-${folderTime(systemClock.wallMs())}`);
  if (isNamedByFlag) return { tree, runDir, mixtureNamedBy: undefined };
  // A config file of a run folder may be a stranger's.
  const ofFile = { preset: undefined, config: args.config, resume: undefined, 'trust-modules': false, set: [] };
  return { tree, runDir, mixtureNamedBy: isNamedByFile ? await storedConfigOf(ofFile) : source.file };
}

async function train(plan: FinetunePlan, args: FinetuneArguments, runDir: string, more: readonly ConfigOverride[]) {
  const tree = overrideTree(plan.tree, more);
  const file = `${resolve(runDir)}.yaml`;
  const beforeSchedule = checkConfig(await fillModel(tree), file);
  const passSteps = await findPassSteps(beforeSchedule, plan.mixtureNamedBy);
  const scheduled = withValidation(tree, beforeSchedule.training.steps, passSteps);
  const config = checkConfig(await fillModel(scheduled), file);
  await mkdir(dirname(file), { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'make', dirname(file));
  });
  await replaceFile(file, stringify(scheduled));
  standardOutput.write(
    `config ${file}: ${passSteps} steps are one pass, a validation each ${config.evaluation.everySteps} steps\n`,
  );
  const local = await resolveOnThisHost(config, args.workers);
  // Loaded here: no other command needs a coordinator.
  const { runCoordinator } = await import('../run-coordinator.ts');
  return runCoordinator({
    ...{ args: { 'run-dir': runDir, resume: undefined, 'allow-mixture-change': false }, ...local },
    mixtureNamedBy: plan.mixtureNamedBy,
    workerHost: createLocalWorkers(args.workers),
  });
}

/** Prepares the mixture; the run finds it prepared. @returns steps of a pass over its train examples */
async function findPassSteps(config: RunConfig, mixtureNamedBy: string | undefined): Promise<number> {
  const write = (line: string): void => {
    standardOutput.write(`${line}\n`);
  };
  const { mixture } = await untilInterrupted((signal) => ensurePrepared(config, mixtureNamedBy, write, signal));
  try {
    let [inputTokens, targetTokens] = [0, 0];
    for (const task of mixture.tasks.filter(({ kind }) => kind === 'supervised'))
      for (let example = 0; example < task.numExamples; example++) {
        inputTokens += task.inputsLength(example);
        targetTokens += task.targetsLength(example);
      }
    const { featureLengths, training } = config;
    return stepsOfPass({ inputTokens, targetTokens, rowsPerStep: training.rowsPerStep, featureLengths });
  } finally {
    mixture.close();
  }
}
