/** The ledger against the journal: each step that a session committed is in the ledger, once, with its gradient and its loss. */
import type { StepFigures } from './ledger-step.ts';
import type { RunHistory } from './run-history.ts';
import type { Violations } from './violations.ts';

export class CommitCheck {
  readonly #history: RunHistory;
  readonly #from: number;
  readonly #to: number;
  readonly #violations: Violations;
  /** Of each epoch, which of its commits the ledger holds. */
  readonly #recorded: ReadonlyMap<number, Uint8Array>;

  /** @param from, to the steps to compare, of whatever epoch */
  constructor(history: RunHistory, from: number, to: number, violations: Violations) {
    this.#history = history;
    this.#from = from;
    this.#to = to;
    this.#violations = violations;
    this.#recorded = new Map(
      history.sessions.map(({ epoch, startStep, lastStep }) => [epoch, new Uint8Array(lastStep - startStep)]),
    );
  }

  /** @param mayBeAhead the run may commit the step any moment, or was killed before it did */
  take(figures: StepFigures, epoch: number, mayBeAhead: boolean): void {
    const { step, gradDigest, loss } = figures;
    if (step < this.#from || step > this.#to) return;
    const commit = this.#history.commit(epoch, step);
    const session = this.#history.session(epoch);
    const add = (kind: 'twice' | 'differs' | 'not committed', what: string): void => {
      this.#violations.add({ kind, what: `step ${step} of epoch ${epoch}: ${what}`, steps: [step] });
    };
    if (commit === undefined || session === undefined) {
      if (!mayBeAhead) add('not committed', 'in the ledger, and not in the journal');
      return;
    }
    const recorded = this.#recorded.get(epoch)!;
    const place = step - session.startStep - 1;
    if (recorded[place] === 1) add('twice', 'the ledger holds it twice');
    recorded[place] = 1;
    if (commit.gradDigest !== gradDigest || !Object.is(commit.loss, loss))
      add(
        'differs',
        `gradient ${gradDigest} and loss ${loss} in the ledger, ${commit.gradDigest} and ${commit.loss} in the journal`,
      );
  }

  /** What the journal has and the ledger has not. */
  finish(): void {
    for (const { epoch, startStep, lastStep } of this.#history.sessions) {
      const recorded = this.#recorded.get(epoch)!;
      const end = Math.min(lastStep, this.#to);
      for (let step = Math.max(startStep + 1, this.#from); step <= end; step++) {
        const first = step;
        while (step <= end && recorded[step - startStep - 1] === 0) step += 1;
        if (step === first) continue;
        const what = `steps ${first} to ${step - 1} of epoch ${epoch}: committed, and not in the ledger`;
        this.#violations.add({ kind: 'not recorded', what, steps: [first, step - 1] });
      }
    }
  }
}
