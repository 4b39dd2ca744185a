/** Whether workers are alike: with another engine or mixture among them the bits would not be those of any number of workers. */
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

type Facts = Pick<MessageOf<'ready'>, 'engineFingerprint' | 'mixtureHash'>;

interface Described {
  readonly worker: WorkerHandle;
  readonly facts: Facts;
}

/** In what a worker differs; undefined: in nothing. MIXTURE_MISMATCH or STATE_DIVERGED (engines), naming the worker and both values. */
export function differenceOf(worker: WorkerHandle, found: Facts, expected: Facts): TrainerError | undefined {
  const sentence = (what: string, key: keyof Facts): string =>
    `${worker.toString()}: expected ${what} ${expected[key]}, got ${found[key]}; all workers of a run must be alike`;
  if (found.mixtureHash !== expected.mixtureHash)
    return new TrainerError('MIXTURE_MISMATCH', sentence('mixture', 'mixtureHash'));
  if (found.engineFingerprint !== expected.engineFingerprint)
    return new TrainerError('STATE_DIVERGED', sentence('engine', 'engineFingerprint'));
  return undefined;
}

/** @throws MIXTURE_MISMATCH, STATE_DIVERGED (engines) where a member differs from this mixture or the first member's engine */
export function checkAlike(members: readonly Described[], mixtureHash: string): void {
  const { engineFingerprint } = members[0]!.facts;
  for (const { worker, facts } of members) {
    const difference = differenceOf(worker, facts, { engineFingerprint, mixtureHash });
    if (difference !== undefined) throw difference;
  }
}

/** Another engine than before goes on from the same numbers, but not with the same bits: that must not go unsaid. */
export function tellOtherEngine(log: Logger, before: string | undefined, found: string): void {
  if (before === undefined || before === found) return;
  const reason = 'from here on the bits are not those of the run that did not stop';
  log.warn({ reason, expected: before, found }, 'engine changed');
}
