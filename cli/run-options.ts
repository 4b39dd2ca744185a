/** The flags that `train` and `coordinator` share, and their resolution to a RunConfig. */
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Argv } from 'yargs';
import { resolveResume, runPaths } from '../coordinator/run-folder/run-folder.ts';
import { statIfThere } from '../shared/atomic-file.ts';
import { MANIFEST_FILE, RUN_FILE } from '../shared/checkpoint/layout.ts';
import { readRunRecord } from '../shared/checkpoint/read.ts';
import {
  checkConfig,
  loadTree,
  overrideTree,
  parseSetting,
  type ConfigOverride,
} from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { fillModel } from './init/fill-model.ts';
import { presetFile, presetNames } from './presets.ts';

export interface RunArguments {
  preset?: string | undefined;
  config?: string | undefined;
  init?: string | undefined;
  steps?: number | undefined;
  seed?: number | undefined;
  engine?: string | undefined;
  device?: string | undefined;
  'run-dir'?: string | undefined;
  resume?: string | undefined;
  'allow-mixture-change': boolean;
  'trust-modules': boolean;
  set: string[];
}

export function addRunOptions<T>(parser: Argv<T>): Argv<T & RunArguments> {
  return parser
    .option('preset', { type: 'string', describe: `Run preset: ${presetNames().join(', ')}` })
    .option('config', { type: 'string', describe: 'Config file (YAML) instead of a preset' })
    .conflicts('preset', 'config')
    .option('init', {
      type: 'string',
      describe: 'Begin with the parameters of a run folder, a checkpoint or a T5 of Hugging Face',
    })
    .option('steps', { type: 'number', describe: 'Optimizer steps of the whole run' })
    .option('seed', { type: 'number', describe: 'Seed of every random choice' })
    .option('engine', { type: 'string', describe: 'auto, native, wasm or cpu' })
    .option('device', { type: 'string', describe: 'auto, cpu or gpu; gpu fails on a host without one' })
    .option('run-dir', { type: 'string', describe: 'Run folder; default runs/<name>-<time>' })
    .option('resume', {
      type: 'string',
      describe: 'Resume a run folder, or start a new run folder from one checkpoint',
    })
    .option('allow-mixture-change', {
      type: 'boolean',
      default: false,
      describe: 'Resume with a changed mixture; unchanged tasks continue in their epoch',
    })
    .option('trust-modules', {
      type: 'boolean',
      default: false,
      describe: 'Run the TypeScript of a mixture that only the checkpoint or run folder names',
    })
    .option('set', {
      type: 'string',
      array: true,
      default: [],
      describe: 'Any setting: --set training.rowsPerStep=32',
    });
}

/**
 * The config of a run: from the preset or file, else from the run or checkpoint to resume. Settings and flags override it.
 * @throws CONFIG_INVALID, NAME_UNKNOWN, PATH_UNUSABLE, CHECKPOINT_CORRUPT
 */
export async function resolveConfig(args: RunArguments, extra: readonly ConfigOverride[] = []): Promise<RunConfig> {
  const { preset, config, resume } = args;
  const overrides = [...args.set.map(parseSetting), ...flagOverrides(args), ...extra];
  const load = async (file: string): Promise<RunConfig> =>
    checkConfig(await fillModel(await loadTree(file, overrides)), file);
  if (preset !== undefined) return load(presetFile(preset));
  if (config !== undefined) return load(config);
  if (resume === undefined)
    throw new TrainerError(
      'CONFIG_INVALID',
      `expected --preset NAME (${presetNames().join(', ')}), --config FILE or --resume PATH`,
    );
  const target = await resolveResume(resume);
  if (target.kind === 'run') return load(runPaths(target.runFolder).config);
  const { config: resolved } = await readRunRecord(target.checkpointFolder);
  return checkConfig(overrideTree(resolved, overrides), join(target.checkpointFolder, RUN_FILE));
}

/**
 * The stored config that names the mixture of a run; undefined where the user named it himself, or trusts it. A config of a run folder or
 * checkpoint counts as stored however it was given: it may be a stranger's.
 */
export async function storedConfigOf(
  args: Pick<RunArguments, 'preset' | 'config' | 'resume' | 'trust-modules' | 'set'>,
  extra: readonly ConfigOverride[] = [],
): Promise<string | undefined> {
  const { preset, config, resume } = args;
  if (args['trust-modules'] || preset !== undefined) return undefined;
  if ([...args.set.map(parseSetting), ...extra].some(namesMixture)) return undefined;
  if (config !== undefined) return (await isStored(config)) ? config : undefined;
  if (resume === undefined) return undefined;
  const target = await resolveResume(resume);
  return target.kind === 'run' ? runPaths(target.runFolder).config : join(target.checkpointFolder, RUN_FILE);
}

/** Whether a setting names the file of the mixture. */
export function namesMixture({ path: [section, field], value }: ConfigOverride): boolean {
  if (section !== 'mixture') return false;
  return field === undefined ? typeof value === 'object' && value !== null && 'path' in value : field === 'path';
}

/** Whether a config file lies in a run folder or checkpoint. */
async function isStored(config: string): Promise<boolean> {
  const { journal, checkpoints } = runPaths(dirname(await realpath(config).catch(() => config)));
  const marks = [journal, checkpoints, join(dirname(journal), MANIFEST_FILE)];
  const found = await Promise.all(marks.map((mark) => statIfThere(mark)));
  return found.some((facts) => facts !== undefined);
}

function flagOverrides({ init, steps, seed, engine, device }: RunArguments): ConfigOverride[] {
  const flags: [string[], unknown, string][] = [
    [['init', 'from'], init, '--init'],
    [['training', 'steps'], steps, '--steps'],
    [['seed'], seed, '--seed'],
    [['compute', 'engine'], engine, '--engine'],
    [['compute', 'device'], device, '--device'],
  ];
  return flags.filter(([, value]) => value !== undefined).map(([path, value, origin]) => ({ path, value, origin }));
}
