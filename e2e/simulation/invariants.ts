/**
 * Rules that every run must keep under any faults: checks journal, ledger, checkpoints and final states against the reference run
 * (reference-run.ts). Pure.
 *
 * Definition: the lineage of a run is the last commit of each step. Its parameters come from these commits.
 */
import { applyRecord, EMPTY_JOURNAL_STATE, type JournalRecord } from '../../coordinator/journal/journal-records.ts';
import type { Lanes } from '../../coordinator/ledger/step-record.ts';
import type { ReferenceRun, ReferenceStep } from './reference-run.ts';

/** The ledger of one session. */
export interface RecordedSession {
  readonly epoch: number;
  readonly steps: readonly {
    readonly step: number;
    readonly gradDigest: number;
    readonly lanes: Lanes;
  }[];
}

export interface RunEvidence {
  readonly records: readonly JournalRecord[];
  readonly sessions: readonly RecordedSession[];
  readonly checkpoints: readonly { readonly step: number; readonly paramDigest: string }[];
  /** Workers that ended in order, with the digest of their parameters. */
  readonly finals: readonly { readonly workerId: string; readonly paramDigest: string }[];
  /** Steps of the whole run; undefined if it did not finish. */
  readonly finishedAt?: number;
}

type Commit = Extract<JournalRecord, { kind: 'step-committed' }>;

/** @returns one sentence for each broken rule */
export function findViolations(evidence: RunEvidence, reference: ReferenceRun): string[] {
  const commits = evidence.records.filter((record): record is Commit => record.kind === 'step-committed');
  return [
    ...checkJournal(evidence.records),
    ...checkGenerations(evidence.records),
    ...checkCommits(commits, reference),
    ...checkLedger(evidence.sessions, evidence.records, reference),
    ...checkLineage(evidence.sessions, commits),
    ...checkStates(evidence, reference),
    ...checkEnd(evidence, commits),
  ];
}

/** Order of records: epochs grow, commits are consecutive, no record belongs to an ended epoch. */
function checkJournal(records: readonly JournalRecord[]): string[] {
  let state = EMPTY_JOURNAL_STATE;
  for (const [i, record] of records.entries()) {
    const next = applyRecord(state, record);
    if (typeof next === 'string') return [`journal line ${i + 1}: ${next}`];
    state = next;
  }
  return [];
}

/** Generations grow within an epoch. A commit belongs to a formed generation, and not to an earlier one than the commit before it. */
function checkGenerations(records: readonly JournalRecord[]): string[] {
  const problems: string[] = [];
  let formed: { readonly epoch: number; readonly generation: number } | undefined;
  /** Index of the last commit's generation among all formed generations. */
  let lastIndex = -1;
  const indexes = new Map<string, number>();
  for (const record of records) {
    if (record.kind === 'generation-formed') {
      const { epoch, generation } = record;
      if (formed?.epoch === epoch && generation <= formed.generation)
        problems.push(`generation ${generation} of epoch ${epoch} was formed after generation ${formed.generation}`);
      formed = record;
      indexes.set(`${epoch}/${generation}`, indexes.size);
    }
    if (record.kind !== 'step-committed') continue;
    const { epoch, generation, step } = record;
    // A later coordinator may commit the last steps of a generation, when its survivors come back.
    const candidates = Array.from({ length: epoch }, (_, back) => indexes.get(`${epoch - back}/${generation}`));
    const index = candidates.find((candidate) => candidate !== undefined && candidate >= lastIndex);
    if (index === undefined)
      problems.push(
        `step ${step} was committed by generation ${generation} in epoch ${epoch}, which was not formed or is over`,
      );
    else lastIndex = index;
  }
  return problems;
}

/** Every commit, also of a step that is trained again, has the gradient of the reference run. */
function checkCommits(commits: readonly Commit[], { steps }: ReferenceRun): string[] {
  return commits.flatMap(({ step, epoch, gradDigest }) => {
    const expected = steps[step - 1]?.gradDigest;
    return expected === gradDigest
      ? []
      : [`step ${step}, epoch ${epoch}: expected gradient ${expected ?? 'of no such step'}, committed ${gradDigest}`];
  });
}

/** Each session has the committed steps of its epoch, in order and with the rows of the plan. The newest may have one more. */
function checkLedger(
  sessions: readonly RecordedSession[],
  records: readonly JournalRecord[],
  reference: ReferenceRun,
): string[] {
  const problems: string[] = [];
  const epochs = records.filter((record) => record.kind === 'run-opened').map(({ epoch }) => epoch);
  for (const epoch of epochs) {
    const committed = records.flatMap((record) =>
      record.kind === 'step-committed' && record.epoch === epoch ? [record.step] : [],
    );
    const session = sessions.find((candidate) => candidate.epoch === epoch);
    const recorded = session?.steps.map(({ step }) => step) ?? [];
    const isNewest = epoch === epochs.at(-1);
    const surplus = recorded.slice(committed.length);
    if (recorded.slice(0, committed.length).join() !== committed.join())
      problems.push(`epoch ${epoch}: committed steps ${committed.join()}, the ledger has ${recorded.join()}`);
    if (surplus.length > (isNewest ? 1 : 0))
      problems.push(`epoch ${epoch}: the ledger has steps ${surplus.join()}, which were not committed`);
    for (const step of session?.steps ?? []) problems.push(...compareStep(epoch, step, reference.steps[step.step - 1]));
  }
  return problems;
}

function compareStep(
  epoch: number,
  found: RecordedSession['steps'][number],
  expected: ReferenceStep | undefined,
): string[] {
  const where = `ledger, epoch ${epoch}, step ${found.step}`;
  if (expected === undefined) return [`${where}: the run has no such step`];
  const problems: string[] = [];
  if (found.gradDigest !== expected.gradDigest)
    problems.push(`${where}: expected gradient ${expected.gradDigest}, found ${found.gradDigest}`);
  if (namesOf(found.lanes).join() !== namesOf(expected.lanes).join())
    problems.push(`${where}: other rows than those of the plan`);
  return problems;
}

/** Along the lineage, no example is trained twice in one pass over its task. */
function checkLineage(sessions: readonly RecordedSession[], commits: readonly Commit[]): string[] {
  const lineage = new Map(commits.map((commit) => [commit.step, commit.epoch]));
  const seen = new Map<string, number>();
  const problems: string[] = [];
  for (const [step, epoch] of lineage) {
    const recorded = sessions
      .find((session) => session.epoch === epoch)
      ?.steps.find((candidate) => candidate.step === step);
    for (const { task, index, epoch: pass } of recorded?.lanes.flat(2) ?? []) {
      const name = `example ${index} of task ${task} in pass ${pass}`;
      const before = seen.get(name);
      if (before !== undefined) problems.push(`${name} was trained on in step ${before} and in step ${step}`);
      seen.set(name, step);
    }
  }
  return problems;
}

/** Checkpoints and workers that ended in order have the parameters of the reference run after some step. */
function checkStates({ checkpoints, finals }: RunEvidence, { steps, startDigest }: ReferenceRun): string[] {
  const expectedAt = (step: number): string => (step === 0 ? startDigest : (steps[step - 1]?.paramDigest ?? 'none'));
  const known = new Set([startDigest, ...steps.map(({ paramDigest }) => paramDigest)]);
  const compare = (what: string, step: number, found: string): string[] =>
    found === expectedAt(step)
      ? []
      : [`${what} of step ${step}: expected parameters ${expectedAt(step)}, found ${found}`];
  return [
    ...checkpoints.flatMap(({ step, paramDigest }) => compare('the checkpoint', step, paramDigest)),
    ...finals.flatMap(({ workerId, paramDigest }) =>
      known.has(paramDigest) ? [] : [`the state of ${workerId}: ${paramDigest} is of no step of the undisturbed run`],
    ),
  ];
}

/** A finished run has committed all its steps and saved the last one. */
function checkEnd({ finishedAt, checkpoints, records }: RunEvidence, commits: readonly Commit[]): string[] {
  const published = new Set(checkpoints.map(({ step }) => step));
  const lost = records.flatMap((record) =>
    record.kind === 'checkpoint-published' && record.step === finishedAt && !published.has(record.step)
      ? [`the checkpoint of step ${record.step} was published and is missing`]
      : [],
  );
  if (finishedAt === undefined || finishedAt === 0) return lost;
  const last = commits.at(-1)?.step ?? 0;
  if (last !== finishedAt) lost.push(`the run finished after step ${last} of ${finishedAt}`);
  if (!published.has(finishedAt)) lost.push(`the run finished without a checkpoint of step ${finishedAt}`);
  return lost;
}

function namesOf(lanes: Lanes): string[] {
  return lanes.map((rows) =>
    rows.map((row) => row.map(({ task, index, epoch }) => `${task}.${index}.${epoch}`).join(' ')).join('/'),
  );
}
