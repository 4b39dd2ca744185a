/** The evaluation sets that a mixture declares, one entry each. Pure. */
import { TrainerError } from '../../shared/errors.ts';
import { computeSegmentLength } from '../plan/span-corruption.ts';
import { withoutLocations } from '../prepare/plan-tasks.ts';
import { sha256Of } from '../prepare/prepared-format.ts';
import {
  SPLITS,
  type Denoising,
  type EvaluationSet,
  type FeatureLengths,
  type JsonValue,
  type Mixture,
  type Preprocessor,
  type SourceSpec,
  type SplitName,
  type Task,
} from '../tasks/task.ts';
import { parseTemplate } from '../tasks/template.ts';
import type { HeldOut } from '../tasks/train-cut.ts';
import { createRules, type SetRules } from './set-record.ts';

/** A set that can be made. */
export interface DeclaredSet {
  readonly rules: SetRules;
  /** Hash of the rules. */
  readonly declared: string;
  readonly source: SourceSpec;
  /** Set if its records are a part of train. */
  readonly heldOut?: HeldOut;
  readonly content:
    | { readonly kind: 'supervised'; readonly task: Task; readonly preprocessor: Preprocessor }
    | { readonly kind: 'denoising'; readonly text: Denoising; readonly segmentLength: number };
}

/** A set that cannot be made, and is no failure: the user has not brought its file, or the cut of a small train source has no record. */
export interface AbsentSet {
  readonly task: string;
  readonly split: SplitName;
  readonly name: string;
  /** Says what to do. */
  readonly reason: string;
}

export interface DeclaredSets {
  readonly sets: readonly DeclaredSet[];
  readonly absent: readonly AbsentSet[];
}

export interface DeclareInit {
  readonly mixture: Mixture;
  readonly featureLengths: FeatureLengths;
  /** SHA-256 of the tokenizer. */
  readonly tokenizer: string;
  readonly splits: readonly SplitName[];
}

/** In the order of the mixture. @throws CONFIG_INVALID if no denoising segment fits the lengths */
export function declareSets({ mixture, featureLengths, tokenizer, splits }: DeclareInit): DeclaredSets {
  const sets: DeclaredSet[] = [];
  const absent: AbsentSet[] = [];
  const { inputs, targets } = featureLengths;
  const { denoising } = mixture;
  for (const task of [...mixture.tasks, ...(denoising === undefined ? [] : [denoising])])
    for (const split of SPLITS.filter((name) => splits.includes(name)))
      for (const set of task.splits?.[split] ?? []) {
        const { name, source } = set;
        if (source.kind === 'missing') {
          const reason = `bring ${source.file} in the folder given: (${source.how}), or name it in ${split}:`;
          absent.push({ task: task.name, split, name, reason });
          continue;
        }
        const isCut = source.kind === 'cut';
        const spec = isCut ? task.source : source;
        const content = contentOf(task, set, featureLengths);
        const rules = createRules({
          ...{ task: task.name, kind: content.kind, split, name },
          ...(isCut ? { cut: source.oneIn } : {}),
          ...rulesOf(content),
          source: withoutLocations(spec) as JsonValue,
          tokenizer,
          featureLengths: { inputs, targets },
        });
        sets.push({
          ...{ rules, declared: sha256Of(JSON.stringify(rules)), source: spec, content },
          ...(isCut ? { heldOut: { set: name, oneIn: source.oneIn } } : {}),
        });
      }
  return { sets, absent };
}

function contentOf(
  task: Task | Denoising,
  { preprocessor }: EvaluationSet,
  { inputs, targets }: FeatureLengths,
): DeclaredSet['content'] {
  if ('preprocessor' in task) return { kind: 'supervised', task, preprocessor: preprocessor ?? task.preprocessor };
  const segmentLength = computeSegmentLength({ inputsLimit: inputs, targetsLimit: targets });
  return { kind: 'denoising', text: task, segmentLength };
}

function rulesOf(
  content: DeclaredSet['content'],
): Pick<SetRules, 'preprocessor' | 'segmentLength' | 'references' | 'fields'> {
  if (content.kind === 'denoising')
    return {
      preprocessor: { kind: 'denoising', text: content.text.text },
      segmentLength: content.segmentLength,
      fields: {},
    };
  const { references, fields } = content.task.evaluation;
  return {
    preprocessor: { ...content.preprocessor.identity },
    ...(references === undefined ? {} : { references: { ...references } }),
    fields: { ...fields },
  };
}

/** The fields of a record that decide whether it is held out. */
export function heldOutFields({ content }: DeclaredSet): readonly string[] {
  return content.kind === 'supervised' ? content.task.preprocessor.fields : parseTemplate(content.text.text).fields;
}

/** @throws CONFIG_INVALID for a name that is no split */
export function parseSplits(names: readonly string[]): SplitName[] {
  return names.map((name) => {
    const split = SPLITS.find((known) => known === name);
    if (split !== undefined) return split;
    throw new TrainerError('CONFIG_INVALID', `splits: expected ${SPLITS.join(' or ')}, found "${name}"`);
  });
}
