/** The flags that `train` and `coordinator` share, and how they become a RunConfig. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Argv } from 'yargs';
import { loadConfig, parseSetting, type ConfigOverride } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { presetFile, presetNames } from './presets.ts';

export interface RunArguments {
  preset?: string | undefined;
  config?: string | undefined;
  steps?: number | undefined;
  seed?: number | undefined;
  engine?: string | undefined;
  'run-dir'?: string | undefined;
  resume?: string | undefined;
  set: string[];
}

export function addRunOptions<T>(parser: Argv<T>): Argv<T & RunArguments> {
  return parser
    .option('preset', { type: 'string', describe: `Run preset: ${presetNames().join(', ')}` })
    .option('config', { type: 'string', describe: 'Config file (YAML) in place of a preset' })
    .conflicts('preset', 'config')
    .option('steps', { type: 'number', describe: 'Optimizer updates of the whole run' })
    .option('seed', { type: 'number', describe: 'Seed of every random choice' })
    .option('engine', { type: 'string', describe: 'auto, wasm, cpu or tensorflow' })
    .option('run-dir', { type: 'string', describe: 'Run folder; default runs/<name>-<time>' })
    .option('resume', {
      type: 'string',
      describe: 'Go on from a run folder, or from one checkpoint in a new run folder',
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
 * @throws CONFIG_INVALID, NAME_UNKNOWN, PATH_UNUSABLE
 */
export async function resolveConfig(args: RunArguments, extra: readonly ConfigOverride[] = []): Promise<RunConfig> {
  return loadConfig(configFile(args), [...args.set.map(parseSetting), ...flagOverrides(args), ...extra]);
}

function configFile({ preset, config, resume }: RunArguments): string {
  if (preset !== undefined) return presetFile(preset);
  if (config !== undefined) return config;
  if (resume === undefined)
    throw new TrainerError(
      'CONFIG_INVALID',
      `expected --preset NAME (${presetNames().join(', ')}), --config FILE or --resume PATH`,
    );
  const found = ['config.yaml', 'exmix-config.yaml'].map((file) => join(resume, file)).find(existsSync);
  if (found !== undefined) return found;
  throw new TrainerError(
    'PATH_UNUSABLE',
    `--resume ${resume}: expected a run folder or a checkpoint folder of exmix, found no config in it`,
  );
}

function flagOverrides({ steps, seed, engine }: RunArguments): ConfigOverride[] {
  const flags: [string[], unknown, string][] = [
    [['training', 'steps'], steps, '--steps'],
    [['seed'], seed, '--seed'],
    [['compute', 'engine'], engine, '--engine'],
  ];
  return flags.filter(([, value]) => value !== undefined).map(([path, value, origin]) => ({ path, value, origin }));
}
