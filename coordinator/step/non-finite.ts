/**
 * Steps whose gradient is not finite: collects the messages of the ranks, decides what follows, and describes the cause. Pure, except for the
 * messages it keeps. Every rank sees the same sum: either all of them find it not finite, or their states differ.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import { TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';

/** Examples that a sentence names at most. */
const MAX_EXAMPLES = 8;
/** Losses that a sentence names at most. */
const MAX_LOSSES = 4;
/** With `onNonFinite: skip`, more skipped steps than this among the last SKIP_SPAN steps end the run: it learns nothing any more. */
export const MAX_SKIPPED = 10;
export const SKIP_SPAN = 100;

export type NotFiniteMessage = MessageOf<'not-finite'>;

export type NonFiniteVerdict =
  /** No rank has found the step not finite, or not all ranks have answered. */
  | { readonly kind: 'none' }
  | { readonly kind: 'all'; readonly messages: readonly NotFiniteMessage[] }
  /** Other ranks have applied the step: their gradient was finite. */
  | { readonly kind: 'some'; readonly messages: readonly NotFiniteMessage[]; readonly ranks: readonly number[] };

/** Of one generation. Bound: one message for each rank and open step. */
export class NonFiniteSteps {
  readonly #messages = new Map<number, Map<number, NotFiniteMessage>>();

  /**
   * @param last the steps that were committed and dealt last: those between are open
   * @throws MESSAGE_INVALID for a step that is not open
   */
  receive(rank: number, message: NotFiniteMessage, last: { readonly committed: number; readonly dealt: number }): void {
    if (message.step <= last.committed || message.step > last.dealt)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `rank ${rank}: the gradient of step ${message.step} is not finite, but the open steps are ${last.committed + 1} to ${last.dealt}`,
      );
    const ofStep = this.#messages.get(message.step) ?? new Map<number, NotFiniteMessage>();
    this.#messages.set(message.step, ofStep.set(rank, message));
  }

  /** Whether a rank has found the step not finite. */
  knows(step: number): boolean {
    return this.#messages.has(step);
  }

  hasSaid(rank: number, step: number): boolean {
    return this.#messages.get(step)?.has(rank) ?? false;
  }

  /** @param unreported ranks that have not reported the step as applied */
  judge(step: number, worldSize: number, unreported: readonly number[]): NonFiniteVerdict {
    const ofStep = this.#messages.get(step);
    if (ofStep === undefined || unreported.some((rank) => !ofStep.has(rank))) return { kind: 'none' };
    const ranks = [...ofStep.keys()].sort((a, b) => a - b);
    const messages = ranks.map((rank) => ofStep.get(rank)!);
    return ranks.length === worldSize ? { kind: 'all', messages } : { kind: 'some', messages, ranks };
  }
}

/** Decides about a step whose gradient is not finite on all ranks. A retry repeats a step once; skips are bounded by MAX_SKIPPED. */
export class NonFinitePolicy {
  readonly #policy: RunConfig['training']['onNonFinite'];
  #retriedStep: number | undefined;
  /** The last steps that were skipped in this session, at most MAX_SKIPPED. */
  readonly #skipped: number[] = [];

  constructor(policy: RunConfig['training']['onNonFinite']) {
    this.#policy = policy;
  }

  decide(step: number): 'end' | 'retry' | 'skip' | 'too-many-skipped' {
    if (this.#policy === 'end') return 'end';
    if (this.#policy === 'skip') {
      const [oldest] = this.#skipped;
      if (this.#skipped.length === MAX_SKIPPED && step - oldest! < SKIP_SPAN) return 'too-many-skipped';
      this.#skipped.push(step);
      if (this.#skipped.length > MAX_SKIPPED) this.#skipped.shift();
      return 'skip';
    }
    if (this.#retriedStep === step) return 'end';
    this.#retriedStep = step;
    return 'retry';
  }

  /** Whether the step was not finite before its retry. */
  wasRetried(step: number): boolean {
    return this.#retriedStep === step;
  }
}

/**
 * `step 6: the gradient of X is not finite, first lane with such a loss: 3 (…)`.
 * @param rowsOf encoded rows of a lane, as they were dealt
 */
export function describeNonFinite(
  step: number,
  messages: readonly NotFiniteMessage[],
  rowsOf: (lane: number) => Uint8Array,
  taskNames: readonly string[],
): string {
  const name = (task: number): string => taskNames[task] ?? `task ${task}`;
  const head = `step ${step}: ${messages[0]!.reason}; nothing was applied`;
  const losses = messages.flatMap((message) => message.losses).sort((a, b) => a.lane - b.lane);
  const [first] = losses;
  if (first === undefined) return `${head}; all losses are finite`;
  const { lane } = first;
  const inLane = losses
    .filter((loss) => loss.lane === lane)
    .map(({ task, loss }) => `${task === null ? 'z-loss' : `loss of ${name(task)}`} ${loss}`);
  const bad = new Set(losses.flatMap((loss) => (loss.lane === lane && loss.task !== null ? [loss.task] : [])));
  const examples = decodeRows(rowsOf(lane))
    .flat()
    .filter(({ task }) => bad.size === 0 || bad.has(task))
    .map(({ task, index }) => `${name(task)} ${index}`);
  return `${head}; the first lane with a loss that is not finite is ${lane}: ${listNames(inLane, { most: MAX_LOSSES })}; its examples: ${listNames(examples, { most: MAX_EXAMPLES })}`;
}
