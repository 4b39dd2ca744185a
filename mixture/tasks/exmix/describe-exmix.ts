/** The table for listings: `exmix tasks`, docs/tasks.md. The rates are those of the paper, K = 300,000 and R = 2. */
import { computeRates, PAPER_RATES } from '../../plan/rates.ts';
import { assertInvariant } from '../../../shared/errors.ts';
import { TRAIN_CUT } from '../evaluation-entry.ts';
import type { Evaluation, HubSource, SourceFormat } from '../task.ts';
import { C4, C4_FACTS } from './c4.ts';
import type { Columns } from './column-type.ts';
import type { DeclaredSet } from './declared-splits.ts';
import { EXMIX_TASKS, exmixSizes } from './exmix.ts';
import { givenFileName, judgementOf, type ExmixTask } from './exmix-task.ts';
import { describeSteps } from './rule.ts';

/** A file that the user brings. */
export interface GivenDescription {
  readonly kind: 'given';
  readonly format: SourceFormat;
  /** Its name in the folder `given:`. */
  readonly file: string;
  readonly how: string;
}

export interface DescribedSet {
  readonly name: string;
  readonly kind: DeclaredSet['kind'];
  readonly from: string;
}

export interface ExmixDescription {
  readonly name: string;
  readonly family: string;
  readonly kind: 'supervised' | 'denoising';
  readonly citation: string;
  readonly source: HubSource | GivenDescription;
  readonly columns: Columns;
  readonly template: { readonly inputs: string; readonly targets: string };
  /** All possible targets. Empty if targets are free text. */
  readonly labels: readonly string[];
  readonly steps: readonly string[];
  /** The sets besides train. Empty for denoising. */
  readonly splits: { readonly validation: readonly DescribedSet[]; readonly test: readonly DescribedSet[] };
  readonly splitConfidence: 'high' | 'low';
  /** Undefined for denoising. */
  readonly evaluation?: Evaluation;
  /** Supervised: training examples after preprocessing. Denoising: documents. */
  readonly numExamples: number;
  readonly isSizeEstimated: boolean;
  /** Share of the ExMix draws. 0 for denoising. */
  readonly exmixRate: number;
  /** Share of all draws. */
  readonly overallRate: number;
  readonly confidence: 'high' | 'low';
  readonly note: string;
}

/** All 107 supervised tasks, then C4. */
export function describeExmix(): ExmixDescription[] {
  const rates = new Map(computeRates(exmixSizes(), PAPER_RATES).map((rate) => [rate.name, rate]));
  const rateOf = (name: string) => {
    const { exmixShare = 0, share = 0 } = rates.get(name) ?? {};
    return { exmixRate: exmixShare, overallRate: share };
  };
  return [
    ...EXMIX_TASKS.map((task) => ({ ...describeTask(task), ...rateOf(task.name) })),
    { ...describeDenoising(), ...rateOf(C4.name) },
  ];
}

type Described = Omit<ExmixDescription, 'exmixRate' | 'overallRate'>;

function describeTask(task: ExmixTask): Described {
  const { name, source, rule } = task;
  return {
    name,
    family: task.family,
    kind: 'supervised',
    citation: task.citation,
    source:
      source.kind === 'hub'
        ? source
        : { kind: 'given', format: source.format, file: givenFileName(name, source), how: source.how },
    columns: task.columns,
    template: { inputs: rule.inputs, targets: rule.targets },
    labels: rule.labels,
    steps: describeSteps(rule),
    splits: { validation: describeSets(task, 'validation'), test: describeSets(task, 'test') },
    splitConfidence: task.splits.confidence,
    evaluation: judgementOf(task),
    numExamples: task.numExamples,
    isSizeEstimated: task.isSizeEstimated === true,
    confidence: task.confidence,
    note: task.note,
  };
}

function describeSets(task: ExmixTask, split: 'validation' | 'test'): DescribedSet[] {
  return task.splits[split].map((set) => ({ name: set.name, kind: set.kind, from: whereFrom(task, set) }));
}

function whereFrom({ name, source }: ExmixTask, set: DeclaredSet): string {
  switch (set.kind) {
    case 'split':
      return `split ${set.name} of the hub${set.keep === undefined ? '' : ', all rows'}`;
    case 'given':
      assertInvariant(source.kind === 'given', `the table's ${name} has files to bring for all its splits`);
      return `bring ${givenFileName(name, source, set.name)}: ${set.how}`;
    case 'rows':
      return set.keep.words;
    case 'cut':
      return `one of ${TRAIN_CUT.oneIn} records of train`;
  }
}

function describeDenoising(): Described {
  const { numDocuments, ...facts } = C4_FACTS;
  return {
    ...facts,
    name: C4.name,
    kind: 'denoising',
    source: C4.source,
    template: { inputs: C4.text, targets: '' },
    labels: [],
    steps: ['span corruption during training: noise density 0.15, mean span length 3'],
    splits: { validation: [], test: [] },
    splitConfidence: 'low',
    numExamples: numDocuments,
    isSizeEstimated: false,
  };
}

/**
 * `hub nyu-mll/glue, mnli, train (parquet, revision main)`, or the file to bring. Preparing replaces a branch by its
 * commit.
 */
export function printSource(source: ExmixDescription['source']): string {
  if (source.kind === 'given') return `bring ${source.file}: ${source.how}`;
  const parts = [source.dataset, source.config, source.split, ...(source.files ?? [])];
  const revision = source.revision ?? 'main';
  return `hub ${parts.filter((part) => part !== undefined).join(', ')} (${source.format ?? 'parquet'}, revision ${revision})`;
}
