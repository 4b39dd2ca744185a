/** The options that prepare, tasks and mixture share: mixture, tasks, lengths and output folder. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Argv } from 'yargs';
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { FeatureLengths, Mixture, MixtureOptions } from '../mixture/tasks/task.ts';
import { TrainerError } from '../shared/errors.ts';
import { nearestHint } from '../shared/nearest-names.ts';
import { packageFile } from '../shared/package-files.ts';

/** Mixtures that --mixture accepts by name. */
const BUILT_IN: Readonly<Record<'demo' | 'exmix', string>> = {
  demo: packageFile('deploy/demo/mixture.yaml'),
  exmix: packageFile('deploy/exmix/mixture.yaml'),
};
/** Must equal those of deploy/presets/demo.yaml, so that `train --preset demo` finds the prepared mixture. */
const DEMO_LENGTHS: FeatureLengths = { inputs: 128, targets: 48 };
/** From the ExT5 paper. */
const PAPER_LENGTHS: FeatureLengths = { inputs: 512, targets: 114 };

export interface MixtureArguments {
  mixture?: string | undefined;
  tasks?: string[] | undefined;
  tokenizer?: string | undefined;
  given?: string | undefined;
  out?: string | undefined;
  'inputs-length'?: number | undefined;
  'targets-length'?: number | undefined;
}

export interface ChosenMixture {
  readonly mixture: Mixture;
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture; may be missing. */
  readonly folder: string;
}

export function addMixtureOptions<T>(parser: Argv<T>): Argv<T & MixtureArguments> {
  const lengths = (demo: number, paper: number) =>
    `default ${demo} for the demo, ${paper} (ExT5) for any other mixture`;
  return parser
    .option('mixture', { type: 'string', describe: 'demo (the default), exmix, or a mixture.yaml' })
    .option('tasks', {
      type: 'string',
      array: true,
      nargs: 1,
      describe: "Only these tasks of the mixture, by name or glob: --tasks 'squad_v1,glue_*'",
      coerce: (given: string | string[] | undefined) => (given === undefined ? undefined : splitNames(given)),
    })
    .option('tokenizer', {
      type: 'string',
      describe: 'SentencePiece model, or bytes; replaces the one that the mixture file names',
    })
    .option('given', {
      type: 'string',
      describe: 'Folder with files of the ExMix sets that no hub offers (exmix tasks show NAME)',
    })
    .option('out', {
      type: 'string',
      describe: 'Folder of the prepared mixture; default: in $EXMIX_HOME or ~/.cache/exmix',
    })
    .option('inputs-length', {
      type: 'number',
      describe: `Tokens of packed inputs, EOS included; ${lengths(DEMO_LENGTHS.inputs, PAPER_LENGTHS.inputs)}`,
    })
    .option('targets-length', {
      type: 'number',
      describe: `Tokens of packed targets, EOS included; ${lengths(DEMO_LENGTHS.targets, PAPER_LENGTHS.targets)}`,
    });
}

export function splitNames(given: string | string[]): string[] {
  return [given].flat().flatMap((list) => list.split(/[\s,]+/u).filter((name) => name !== ''));
}

/** @throws PATH_UNUSABLE, CONFIG_INVALID for the mixture file; NAME_UNKNOWN for --tasks and for a built-in mixture */
export function chooseMixture(args: MixtureArguments): ChosenMixture {
  const { tasks, tokenizer, given } = args;
  const options: MixtureOptions = {
    ...(tasks === undefined ? {} : { tasks }),
    ...(tokenizer === undefined ? {} : { tokenizer: resolve(tokenizer) }),
    ...(given === undefined ? {} : { given: resolve(given) }),
  };
  const mixture = loadMixture(mixtureFile(args.mixture ?? 'demo'), options);
  const lengths = mixture.path === BUILT_IN.demo ? DEMO_LENGTHS : PAPER_LENGTHS;
  const featureLengths = {
    inputs: args['inputs-length'] ?? lengths.inputs,
    targets: args['targets-length'] ?? lengths.targets,
  };
  const folder = args.out === undefined ? preparedFolder({ mixture, featureLengths }) : resolve(args.out);
  return { mixture, featureLengths, folder };
}

/** A built-in name or a path. A plain word that is neither is reported as a mistyped name. @throws NAME_UNKNOWN */
export function mixtureFile(given: string): string {
  if (given === 'demo' || given === 'exmix') return BUILT_IN[given];
  const isWord = /^[\w-]+$/u.test(given);
  if (!isWord || existsSync(given)) return given;
  const names = Object.keys(BUILT_IN);
  const hint = nearestHint(given, names, `built in are ${names.join(', ')}`);
  throw new TrainerError('NAME_UNKNOWN', `no mixture is called "${given}", and there is no such file; ${hint}`);
}
