/** The flags that `train` and `coordinator` share, and how they become a RunConfig. */
import { join } from 'node:path';
import type { Argv } from 'yargs';
import { resolveResume, runPaths } from '../coordinator/run-folder/run-folder.ts';
import { RUN_FILE } from '../shared/checkpoint/layout.ts';
import { readRunRecord } from '../shared/checkpoint/read.ts';
import { loadConfig, overrideConfig, parseSetting, type ConfigOverride } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { presetFile, presetNames } from './presets.ts';

export interface RunArguments {
  preset?: string | undefined;
  config?: string | undefined;
  steps?: number | undefined;
  seed?: number | undefined;
  engine?: string | undefined;
  device?: string | undefined;
  'run-dir'?: string | undefined;
  resume?: string | undefined;
  'allow-mixture-change': boolean;
  set: string[];
}

export function addRunOptions<T>(parser: Argv<T>): Argv<T & RunArguments> {
  return parser
    .option('preset', { type: 'string', describe: `Run preset: ${presetNames().join(', ')}` })
    .option('config', { type: 'string', describe: 'Config file (YAML) in place of a preset' })
    .conflicts('preset', 'config')
    .option('steps', { type: 'number', describe: 'Optimizer updates of the whole run' })
    .option('seed', { type: 'number', describe: 'Seed of every random choice' })
    .option('engine', { type: 'string', describe: 'auto, native, wasm or cpu' })
    .option('device', { type: 'string', describe: 'auto, cpu or gpu; gpu is an error where there is none' })
    .option('run-dir', { type: 'string', describe: 'Run folder; default runs/<name>-<time>' })
    .option('resume', {
      type: 'string',
      describe: 'Go on from a run folder, or from one checkpoint in a new run folder',
    })
    .option('allow-mixture-change', {
      type: 'boolean',
      default: false,
      describe: 'Resume with another mixture than the run had; tasks that did not change go on in their epoch',
    })
    .option('set', {
      type: 'string',
      array: true,
      default: [],
      describe: 'Any setting: --set training.rowsPerStep=32',
    });
}

/**
 * The config of a run: of the preset or file, else of the run or checkpoint that is resumed, with settings and flags on top.
 * @throws CONFIG_INVALID, NAME_UNKNOWN, PATH_UNUSABLE, CHECKPOINT_CORRUPT
 */
export async function resolveConfig(args: RunArguments, extra: readonly ConfigOverride[] = []): Promise<RunConfig> {
  const { preset, config, resume } = args;
  const overrides = [...args.set.map(parseSetting), ...flagOverrides(args), ...extra];
  if (preset !== undefined) return loadConfig(presetFile(preset), overrides);
  if (config !== undefined) return loadConfig(config, overrides);
  if (resume === undefined)
    throw new TrainerError(
      'CONFIG_INVALID',
      `expected --preset NAME (${presetNames().join(', ')}), --config FILE or --resume PATH`,
    );
  const target = await resolveResume(resume);
  if (target.kind === 'run') return loadConfig(runPaths(target.runFolder).config, overrides);
  const { config: resolved } = await readRunRecord(target.checkpointFolder);
  return overrideConfig(resolved, join(target.checkpointFolder, RUN_FILE), overrides);
}

function flagOverrides({ steps, seed, engine, device }: RunArguments): ConfigOverride[] {
  const flags: [string[], unknown, string][] = [
    [['training', 'steps'], steps, '--steps'],
    [['seed'], seed, '--seed'],
    [['compute', 'engine'], engine, '--engine'],
    [['compute', 'device'], device, '--device'],
  ];
  return flags.filter(([, value]) => value !== undefined).map(([path, value, origin]) => ({ path, value, origin }));
}
