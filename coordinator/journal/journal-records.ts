/**
 * The records of a journal, and the state of a run that they add up to. Pure.
 *
 * Definitions
 *   epoch       incarnation of the coordinator: one more at each start
 *   generation  version of the membership
 *   step        number of optimizer updates applied: `step-committed` 12 and the checkpoint `step-12` mean the same parameters; the first
 *               commit of a new run is step 1. A skipped step counts as one, with no update
 *
 * Order (checked when written and when replayed): a record belongs to the epoch opened last. Commits follow each other without a gap from the
 * step at which the epoch was opened. An epoch may open at an earlier step than the last commit (the workers were lost, and the steps since
 * the checkpoint are trained again), never at a later one.
 */
import { z } from 'zod';
import { addDigest, keepDigests, type CommittedDigests } from './committed-digests.ts';
import { addChange, rateChangeSchema, type RateChange } from '../deal/rate-changes.ts';

const counter = z.int().nonnegative();
const hex = z.string().regex(/^[0-9a-f]+$/, 'expected lower-case hex');

const runOpened = z.strictObject({
  kind: z.literal('run-opened'),
  epoch: z.int().positive(),
  /** Identity of the run, the same in all its epochs; absent in early journals of 0.1.0. */
  runId: z.string().optional(),
  /** The epoch continues from the states that workers of the last generation hold, not from a checkpoint. */
  goesOn: z.literal(true).optional(),
  configHash: z.string(),
  seed: z.int(),
  mixtureHash: z.string(),
  /** Updates in the parameters that the epoch starts from. */
  step: counter,
  /** Checkpoint folder of those parameters; absent for a new run, or where workers still hold them. */
  fromCheckpoint: z.string().optional(),
  /** What the run began with at step 0, in all its epochs; absent: the seed. */
  init: z.strictObject({ folder: z.string(), paramDigest: hex, optimizer: z.enum(['fresh', 'keep']) }).optional(),
});

const generationFormed = z.strictObject({
  kind: z.literal('generation-formed'),
  epoch: z.int().positive(),
  generation: counter,
  /** As in the `form` message. */
  firstStep: counter,
  /** Worker identities in rank order. */
  members: z.array(z.string()).min(1),
  /** Lanes of each rank: [first, end). */
  lanes: z.array(z.tuple([counter, counter])),
  /** Of all members; absent in journals of 0.1.0. */
  engineFingerprint: z.string().optional(),
});

const stepCommitted = z.strictObject({
  kind: z.literal('step-committed'),
  epoch: z.int().positive(),
  generation: counter,
  step: z.int().positive(),
  /** Place of the plan after this step: fingerprint, window and row. */
  cursor: z.json(),
  /** Checksum of the summed gradient, uint32, as the ranks reported it. */
  gradDigest: counter.max(0xffff_ffff),
  /** Mean loss per target token, nats. */
  loss: z.number(),
});

/** The gradient of the step was not finite, and the run continues without it: nothing was applied, its examples are used up. */
const stepSkipped = z.strictObject({
  kind: z.literal('step-skipped'),
  epoch: z.int().positive(),
  generation: counter,
  step: z.int().positive(),
  /** As of a committed step. */
  cursor: z.json(),
  reason: z.string(),
});

/** The states of these workers differ from the others', or from each other: they do not count until they are replaced. */
const statesDistrusted = z.strictObject({
  kind: z.literal('states-distrusted'),
  epoch: z.int().positive(),
  workerIds: z.array(z.string()).min(1),
  /** The last step of the generation formed last without a wrong gradient of theirs; absent where they put none into any step. */
  goodUntil: counter.optional(),
});

/** Rates were changed during training; on disk before a row is planned by them. */
const ratesChanged = rateChangeSchema.extend({
  kind: z.literal('rates-changed'),
  epoch: z.int().positive(),
  /** From the request; '' where it had none. */
  reason: z.string(),
});

const checkpointPublished = z.strictObject({
  kind: z.literal('checkpoint-published'),
  step: counter,
  /** Relative to the run folder. */
  path: z.string(),
  paramDigest: hex,
});

/** Of one task in a validation. An interface, because declarations of the package name no type of its libraries. */
export interface ValidatedTask {
  readonly numExamples: number;
  /** Mean cross-entropy per target token, nats; null where it is not finite. */
  readonly loss: number | null;
  /** Metric → its scores by name; null where one is not defined. */
  readonly metrics: Readonly<Record<string, Readonly<Record<string, number | null>>>>;
}

const validatedTaskSchema: z.ZodType<ValidatedTask> = z.strictObject({
  numExamples: counter,
  loss: z.number().nullable(),
  metrics: z.record(z.string(), z.record(z.string(), z.number().nullable())),
});

/** The published checkpoint of the step was evaluated. */
const checkpointValidated = z.strictObject({
  kind: z.literal('checkpoint-validated'),
  epoch: z.int().positive(),
  step: z.int().positive(),
  paramDigest: hex,
  /** Of sets, decoding and metrics: validations with another one cannot be compared. */
  settings: hex,
  split: z.enum(['validation', 'test']),
  /** By task name. */
  tasks: z.record(z.string(), validatedTaskSchema),
});

const runFinished = z.strictObject({ kind: z.literal('run-finished'), epoch: z.int().positive(), step: counter });

const runInterrupted = z.strictObject({
  kind: z.literal('run-interrupted'),
  epoch: z.int().positive(),
  step: counter,
  reason: z.string(),
});

export const journalRecordSchema = z.discriminatedUnion('kind', [
  runOpened,
  generationFormed,
  stepCommitted,
  stepSkipped,
  statesDistrusted,
  ratesChanged,
  checkpointPublished,
  checkpointValidated,
  runFinished,
  runInterrupted,
]);

export type JournalRecord = z.output<typeof journalRecordSchema>;
export type RunOpened = z.output<typeof runOpened>;
export type GenerationFormed = z.output<typeof generationFormed>;
export type StepCommitted = z.output<typeof stepCommitted>;
export type StepSkipped = z.output<typeof stepSkipped>;
export type CheckpointValidated = z.output<typeof checkpointValidated>;
export type CheckpointPublished = z.output<typeof checkpointPublished>;

/** The sum of all records; a restarted coordinator continues from it. */
export interface JournalState {
  /** Epoch opened last; 0 where none was. The next coordinator opens `epoch + 1`. */
  readonly epoch: number;
  /** How the last epoch was opened. */
  readonly opened?: RunOpened;
  /** States that workers got in this epoch or a later one count: no epoch since then has started from a checkpoint. */
  readonly heldSince: number;
  /** Workers whose state does not count. Each is trusted again when a later generation with it as a member has committed a step. */
  readonly distrusted: ReadonlyMap<string, GenerationFormed | undefined>;
  /** Generation formed last, in this epoch or in one that it continues. */
  readonly generation?: GenerationFormed;
  /** Reports of that generation do not count for steps after this one. */
  readonly goodUntil: number;
  /** The last committed step, or the step at which the epoch was opened where it has no commit yet. */
  readonly step: number;
  /** The highest step ever committed; above `step` while steps are trained again. */
  readonly furthestStep: number;
  /** The lowest step with the same state as `step`: the steps between were skipped. */
  readonly stateStep: number;
  /** The commit of `step`; absent where the epoch has none yet. */
  readonly lastCommit?: StepCommitted | StepSkipped;
  readonly lastCheckpoint?: CheckpointPublished;
  /** Ascending by step; of each step the last one. */
  readonly validations: readonly CheckpointValidated[];
  /** Gradient digests of committed steps that are in no checkpoint; those after `step` are trained again. */
  readonly digests?: CommittedDigests | undefined;
  /** Of the last generation that has one: another engine gives other gradients. */
  readonly engineFingerprint?: string | undefined;
  /** By window: a plan from the beginning of the run is made with them. */
  readonly rateChanges: readonly RateChange[];
  /** How the last epoch ended; `open` while it runs or where it was killed. */
  readonly ending: 'none' | 'open' | 'finished' | 'interrupted';
}

export const EMPTY_JOURNAL_STATE: JournalState = {
  epoch: 0,
  heldSince: 0,
  distrusted: new Map(),
  goodUntil: Infinity,
  step: 0,
  furthestStep: 0,
  stateStep: 0,
  rateChanges: [],
  validations: [],
  ending: 'none',
};

/**
 * The state after one more record.
 * @returns the new state, or one sentence: why the record cannot follow
 */
export function applyRecord(state: JournalState, record: JournalRecord): JournalState | string {
  if (record.kind === 'run-opened') return openEpoch(state, record);
  if (state.epoch === 0) return `${record.kind} before any run-opened`;
  if (state.ending !== 'open') return `${record.kind} after epoch ${state.epoch} was ${state.ending}`;
  if ('epoch' in record && record.epoch !== state.epoch)
    return `${record.kind} of epoch ${record.epoch} while epoch ${state.epoch} is open`;

  switch (record.kind) {
    case 'generation-formed':
      if (state.generation?.epoch === record.epoch && record.generation <= state.generation.generation)
        return `generation ${record.generation} formed after generation ${state.generation.generation}`;
      return {
        ...state,
        generation: record,
        goodUntil: Infinity,
        engineFingerprint: record.engineFingerprint,
        digests: record.engineFingerprint === state.engineFingerprint ? state.digests : undefined,
      };
    case 'step-committed':
    case 'step-skipped': {
      if (record.step !== state.step + 1) return `step ${record.step} committed after step ${state.step}`;
      const furthestStep = Math.max(state.furthestStep, record.step);
      const isSkipped = record.kind === 'step-skipped';
      const digests = addDigest(state.digests, record.step, isSkipped ? 'skipped' : record.gradDigest);
      const stateStep = isSkipped ? state.stateStep : record.step;
      const distrusted = trustProven(state, record);
      return { ...state, step: record.step, furthestStep, stateStep, distrusted, lastCommit: record, digests };
    }
    case 'states-distrusted': {
      const more = record.workerIds.map((workerId) => [workerId, state.generation] as const);
      const goodUntil = Math.min(state.goodUntil, record.goodUntil ?? Infinity);
      return { ...state, distrusted: new Map([...state.distrusted, ...more]), goodUntil };
    }
    case 'rates-changed': {
      const { window, firstStep, rates, denoisingRatio } = record;
      const rateChanges = addChange(state.rateChanges, { window, firstStep, rates, denoisingRatio });
      return { ...state, rateChanges, digests: keepDigests(state.digests, (step) => step < firstStep) };
    }
    case 'checkpoint-published':
      if (record.step > state.step) return `checkpoint of step ${record.step} published after step ${state.step}`;
      return { ...state, lastCheckpoint: record, digests: keepDigests(state.digests, (step) => step > record.step) };
    case 'checkpoint-validated': {
      if (record.step > state.step) return `checkpoint of step ${record.step} validated after step ${state.step}`;
      const others = state.validations.filter(({ step }) => step !== record.step);
      return { ...state, validations: [...others, record].sort((a, b) => a.step - b.step) };
    }
    case 'run-finished':
    case 'run-interrupted':
      if (record.step !== state.step) return `${record.kind} at step ${record.step} after step ${state.step}`;
      return { ...state, ending: record.kind === 'run-finished' ? 'finished' : 'interrupted' };
  }
}

/** All members of a generation begin with one state; a committed step proves it. */
function trustProven(
  { distrusted, generation: formed }: JournalState,
  { epoch, generation }: StepCommitted | StepSkipped,
): JournalState['distrusted'] {
  if (formed?.epoch !== epoch || formed.generation !== generation) return distrusted; // the step of a generation that has ended
  const isDistrusted = ([workerId, since]: readonly [string, GenerationFormed | undefined]): boolean =>
    since === formed || !formed.members.includes(workerId);
  return new Map([...distrusted].filter(isDistrusted));
}

function openEpoch(state: JournalState, record: RunOpened): JournalState | string {
  if (record.epoch <= state.epoch) return `epoch ${record.epoch} opened after epoch ${state.epoch}`;
  if (state.epoch > 0 && record.step > state.furthestStep)
    return `epoch ${record.epoch} opened at step ${record.step}, but the last committed step is ${state.furthestStep}`;
  const { lastCommit, generation, digests, ...rest } = state;
  const { opened } = state;
  const continues = record.goesOn === true && generation !== undefined;
  const isSame =
    opened?.configHash === record.configHash &&
    opened.seed === record.seed &&
    opened.mixtureHash === record.mixtureHash;
  return {
    ...rest,
    ...(continues ? { generation } : {}),
    heldSince: continues ? state.heldSince : record.epoch,
    distrusted: continues ? state.distrusted : new Map(),
    goodUntil: continues ? state.goodUntil : Infinity,
    digests: isSame ? digests : undefined,
    epoch: record.epoch,
    opened: record,
    step: record.step,
    furthestStep: Math.max(state.furthestStep, record.step),
    stateStep: record.goesOn === true && record.step === state.step ? state.stateStep : record.step,
    ...(lastCommit?.step === record.step ? { lastCommit } : {}),
    ending: 'open',
  };
}
