/**
 * The commits of a run, from its journal: its sessions (epochs), the steps that each committed, and which of these commits count. A
 * session that starts below the last step of the previous one repeats steps; the earlier commits of these steps are superseded.
 *
 * Memory: 32 B a commit.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import type { StepCommitted, StepSkipped } from '../journal/journal-records.ts';
import { replayJournal } from '../journal/journal.ts';

export interface Session {
  readonly epoch: number;
  /** The session started from the state after this step. */
  readonly startStep: number;
  readonly fromCheckpoint?: string;
  /** Its commits are steps startStep + 1 to lastStep. */
  readonly lastStep: number;
  /** Its commits that count are steps startStep + 1 to keptStep; none where keptStep = startStep. */
  readonly keptStep: number;
}

export interface Commit {
  readonly gradDigest: number;
  readonly loss: number;
  /** The plan's cursor after the step: its window, and the rows of it that were handed out. */
  readonly window: number;
  readonly row: number;
}

interface OpenSession {
  readonly epoch: number;
  readonly startStep: number;
  readonly fromCheckpoint?: string;
  readonly commits: number[];
}

/** A step without an update, as in the ledger (step-record.ts). */
const SKIPPED = { gradDigest: 0, loss: 0 };

/** Numbers kept for each commit. */
const FIELDS = 4;
const placeSchema = z.object({ window: z.number(), row: z.number() }).catch({ window: -1, row: -1 });

export class RunHistory {
  /** In order, sessions without a commit included. */
  readonly sessions: readonly Session[];
  readonly #commits: ReadonlyMap<number, readonly number[]>;

  constructor(sessions: readonly OpenSession[]) {
    let reach = Infinity;
    const judged = [...sessions].reverse().map(({ epoch, startStep, fromCheckpoint, commits }): Session => {
      const lastStep = startStep + commits.length / FIELDS;
      const keptStep = Math.max(startStep, Math.min(lastStep, reach));
      reach = Math.min(reach, startStep);
      return { epoch, startStep, lastStep, keptStep, ...(fromCheckpoint === undefined ? {} : { fromCheckpoint }) };
    });
    this.sessions = judged.reverse();
    this.#commits = new Map(sessions.map(({ epoch, commits }) => [epoch, commits]));
  }

  /** The first committed step. */
  get firstStep(): number {
    return Math.min(...this.sessions.map(({ startStep }) => startStep)) + 1;
  }

  get lastStep(): number {
    return this.sessions.at(-1)?.lastStep ?? 0;
  }

  /** Whether the run has committed this step. */
  hasStep(step: number): boolean {
    return Number.isInteger(step) && step >= this.firstStep && step <= this.lastStep;
  }

  session(epoch: number): Session | undefined {
    return this.sessions.find((candidate) => candidate.epoch === epoch);
  }

  /** The session whose commit of a step counts. */
  sessionOf(step: number): Session | undefined {
    return this.sessions.find(({ startStep, keptStep }) => step > startStep && step <= keptStep);
  }

  commit(epoch: number, step: number): Commit | undefined {
    const session = this.session(epoch);
    const commits = this.#commits.get(epoch);
    if (session === undefined || commits === undefined || step <= session.startStep || step > session.lastStep)
      return undefined;
    const at = FIELDS * (step - session.startStep - 1);
    return { gradDigest: commits[at]!, loss: commits[at + 1]!, window: commits[at + 2]!, row: commits[at + 3]! };
  }
}

/** @throws PATH_UNUSABLE, also before the first commit; JOURNAL_CORRUPT, ABORTED */
export async function readRunHistory(journalPath: string, signal?: AbortSignal): Promise<RunHistory> {
  const sessions: OpenSession[] = [];
  const addCommit = (
    { cursor }: StepCommitted | StepSkipped,
    { gradDigest, loss }: Pick<Commit, 'gradDigest' | 'loss'>,
  ): void => {
    const { window, row } = placeSchema.parse(cursor);
    sessions.at(-1)?.commits.push(gradDigest, loss, window, row);
  };
  await replayJournal(journalPath, {
    onRecord: (record) => {
      if (record.kind === 'run-opened') {
        const { epoch, step, fromCheckpoint } = record;
        sessions.push({
          epoch,
          startStep: step,
          commits: [],
          ...(fromCheckpoint === undefined ? {} : { fromCheckpoint }),
        });
      } else if (record.kind === 'step-committed') addCommit(record, record);
      else if (record.kind === 'step-skipped') addCommit(record, SKIPPED);
    },
    ...(signal === undefined ? {} : { signal }),
  });
  const history = new RunHistory(sessions);
  if (sessions.every(({ commits }) => commits.length === 0))
    throw new TrainerError('PATH_UNUSABLE', `${journalPath}: the run has committed no step yet`);
  return history;
}
