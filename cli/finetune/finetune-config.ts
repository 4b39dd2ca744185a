/**
 * The config of a fine-tuning run. Pure.
 *
 * Source: T5's fine-tuning (arXiv 1910.10683, section 3.1.3; t5x finetune.gin): Adafactor with a constant learning rate of 0.001, dropout 0.1,
 * packed rows of 512 input tokens, batches of 128 rows, no denoising.
 */
import type { Tree } from '../../shared/config/load-config.ts';

/** Steps where neither flags nor a file say them. */
export const DEFAULT_STEPS = 1_000;
/** Fewest and most validations of a run. */
const VALIDATIONS = { fewest: 4, most: 20 } as const;
/** Examples of a set that a validation uses at most. */
const MAX_EXAMPLES = 1_000;

const RECIPE: Tree = {
  featureLengths: { inputs: 512, targets: 128 },
  mixture: { denoisingRatio: 0 },
  training: { steps: DEFAULT_STEPS, rowsPerStep: 128, numLanes: 16, microbatchRows: 8, dropout: { rate: 0.1 } },
  schedule: { kind: 'constant', value: 1e-3 },
};

/** Sections and settings that a fine-tuning run takes over from the run that made its model. */
const TAKEN_OVER = {
  featureLengths: ['inputs', 'targets'],
  mixture: ['path', 'tokenizer', 'given', 'windowDraws'],
  training: ['rowsPerStep', 'numLanes', 'microbatchRows'],
} as const;

export interface FinetuneSources {
  /** Folder with the model. */
  readonly from: string;
  readonly name: string;
  /** The config of the run that made the model; undefined: not made by exmix. */
  readonly origin: Tree | undefined;
  /** `--config`. */
  readonly file: Tree | undefined;
  /** Tasks to train on; empty: all of the mixture. */
  readonly tasks: readonly string[];
}

/** The config before `--set` and flags, and before the schedule of validations. */
export function finetuneTree({ from, name, origin = {}, file = {}, tasks }: FinetuneSources): Tree {
  const ofOrigin: Tree = {};
  for (const [section, names] of Object.entries(TAKEN_OVER)) {
    const values = origin[section] as Tree | undefined;
    const taken = names
      .filter((setting) => values?.[setting] !== undefined)
      .map((setting) => [setting, values![setting]]);
    ofOrigin[section] = Object.fromEntries(taken) as Tree;
  }
  const chosen: Tree = {
    name,
    init: { from, optimizer: 'fresh' },
    ...(tasks.length === 0 ? {} : { mixture: { tasks: [...tasks] } }),
  };
  return [
    ofOrigin,
    { name },
    file,
    { ...chosen, ...(file['name'] === undefined ? {} : { name: file['name'] }) },
  ].reduce(mergeTrees, RECIPE);
}

/** Settings of `over` replace those of `base`; sections are merged, and another `kind` replaces its section. */
function mergeTrees(base: Tree, over: Tree): Tree {
  const merged: Tree = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const before = base[name];
    const isSection = isTree(before) && isTree(value);
    const isOtherKind = isSection && value['kind'] !== undefined && value['kind'] !== before['kind'];
    merged[name] = isSection && !isOtherKind ? mergeTrees(before, value) : value;
  }
  return merged;
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Tokens of all examples of a mixture, and those of a step. */
export interface PassFacts {
  readonly inputTokens: number;
  readonly targetTokens: number;
  readonly rowsPerStep: number;
  readonly featureLengths: { readonly inputs: number; readonly targets: number };
}

/** Steps of one pass over the examples in full rows, at least 1. */
export function stepsOfPass({ inputTokens, targetTokens, rowsPerStep, featureLengths }: PassFacts): number {
  const rows = Math.max(inputTokens / featureLengths.inputs, targetTokens / featureLengths.targets);
  return Math.max(1, Math.ceil(rows / rowsPerStep));
}

/** One validation for each pass, within bounds; the best checkpoint by validation stays, and the newest one. */
export function withValidation(tree: Tree, steps: number, passSteps: number): Tree {
  const [least, most] = [Math.ceil(steps / VALIDATIONS.most), Math.ceil(steps / VALIDATIONS.fewest)];
  const everySteps = Math.min(Math.max(passSteps, least), most);
  const schedule: Tree = {
    evaluation: { everySteps, maxExamples: MAX_EXAMPLES },
    checkpoint: { everySteps, keepLast: 1, keepBest: { metric: 'mean', count: 1 } },
  };
  return mergeTrees(schedule, tree);
}
