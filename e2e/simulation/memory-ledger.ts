/**
 * The ledger of a run on a disk of the simulation: the rows of each step, session by session. As in coordinator/ledger, a step is
 * written before it is committed, and the next session removes written steps that were not committed.
 */
import { assertInvariant } from '../../shared/errors.ts';
import type { StepSink } from '../../coordinator/step/record-step.ts';
import type { LastCommit } from '../../coordinator/ledger/repair-ledger.ts';
import type { Lanes, StepFigures, StepToRecord } from '../../coordinator/ledger/step-record.ts';
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import type { MemoryDisk } from './memory-disk.ts';
import type { VirtualProcess } from './virtual-process.ts';

export interface LedgerSession {
  readonly epoch: number;
  /** Step of the parameters that it started from. */
  readonly startStep: number;
  readonly steps: (StepFigures & { readonly lanes: Lanes })[];
}

export interface MemoryLedgerInit {
  readonly disk: MemoryDisk;
  readonly process: VirtualProcess;
  /** The files; they outlive the process. */
  readonly sessions: LedgerSession[];
  readonly epoch: number;
  readonly startStep: number;
  /** The last commit in the journal before the new epoch. */
  readonly committed: LastCommit;
}

/** Removes steps that were not committed, and a session whose epoch the journal never opened. */
function repairMemoryLedger(sessions: LedgerSession[], committed: LastCommit): void {
  if ((sessions.at(-1)?.epoch ?? 0) > committed.epoch) sessions.pop();
  const newest = sessions.at(-1);
  if (newest?.epoch !== committed.epoch) return;
  const numKept = newest.steps.filter(({ step }) => step <= committed.step).length;
  newest.steps.length = numKept;
}

export class MemoryLedger implements StepSink {
  readonly #init: MemoryLedgerInit;
  readonly #session: LedgerSession;
  #step: number;

  constructor(init: MemoryLedgerInit) {
    this.#init = init;
    const { sessions, epoch, startStep, committed } = init;
    repairMemoryLedger(sessions, committed);
    this.#session = { epoch, startStep, steps: [] };
    sessions.push(this.#session);
    this.#step = startStep;
  }

  async append(step: StepToRecord): Promise<void> {
    const { disk, process } = this.#init;
    assertInvariant(step.step === this.#step + 1, `step ${step.step} recorded after step ${this.#step}`);
    this.#step = step.step;
    await disk.write(process, 'ledger', () => this.#session.steps.push({ ...step, lanes: step.lanes.map(decodeRows) }));
  }
}
