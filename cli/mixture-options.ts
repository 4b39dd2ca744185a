/** The options that prepare, tasks and mixture share: which mixture, which lengths, which folder. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Argv } from 'yargs';
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { FeatureLengths, Mixture } from '../mixture/tasks/task.ts';

const DEMO_MIXTURE = fileURLToPath(new URL('../deploy/demo/mixture.yaml', import.meta.url));
/** The demo's texts are short; the same lengths as in deploy/presets/demo.yaml, so that `train --preset demo` finds what was prepared. */
const DEMO_LENGTHS: FeatureLengths = { inputs: 128, targets: 48 };
/** ExT5's. */
const PAPER_LENGTHS: FeatureLengths = { inputs: 512, targets: 114 };

export interface MixtureArguments {
  mixture?: string | undefined;
  out?: string | undefined;
  'inputs-length'?: number | undefined;
  'targets-length'?: number | undefined;
}

export interface ChosenMixture {
  readonly mixture: Mixture;
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture, whether or not it is there. */
  readonly folder: string;
}

export function addMixtureOptions<T>(parser: Argv<T>): Argv<T & MixtureArguments> {
  const lengths = (demo: number, paper: number) =>
    `default ${demo} for the demo, ${paper} (ExT5) for any other mixture`;
  return parser
    .option('mixture', { type: 'string', describe: 'mixture.yaml; default: the demo mixture' })
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

/** @throws PATH_UNUSABLE, CONFIG_INVALID for the mixture file */
export function chooseMixture(args: MixtureArguments): ChosenMixture {
  const mixture = loadMixture(args.mixture ?? DEMO_MIXTURE);
  const lengths = mixture.path === DEMO_MIXTURE ? DEMO_LENGTHS : PAPER_LENGTHS;
  const featureLengths = {
    inputs: args['inputs-length'] ?? lengths.inputs,
    targets: args['targets-length'] ?? lengths.targets,
  };
  const folder = args.out === undefined ? preparedFolder({ mixture, featureLengths }) : resolve(args.out);
  return { mixture, featureLengths, folder };
}
