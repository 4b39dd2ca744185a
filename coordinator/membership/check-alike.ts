/** Checks that workers are alike: with another engine or mixture among them, the bits would depend on the assignment of lanes. */
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

type Facts = Pick<MessageOf<'ready'>, 'engineFingerprint' | 'mixtureHash'>;

interface Described {
  readonly worker: WorkerHandle;
  readonly facts: Facts;
}

/** The difference of a worker as MIXTURE_MISMATCH or STATE_DIVERGED (engines), with both values; undefined where there is none. */
export function differenceOf(worker: WorkerHandle, found: Facts, expected: Facts): TrainerError | undefined {
  const sentence = (what: string, key: keyof Facts): string =>
    `${worker.toString()}: expected ${what} ${expected[key]}, got ${found[key]}; all workers of a run must be alike`;
  if (found.mixtureHash !== expected.mixtureHash)
    return new TrainerError('MIXTURE_MISMATCH', sentence('mixture', 'mixtureHash'));
  if (found.engineFingerprint !== expected.engineFingerprint)
    return new TrainerError('STATE_DIVERGED', sentence('engine', 'engineFingerprint'));
  return undefined;
}

export interface EngineVote {
  readonly workerId: string;
  readonly engineFingerprint: string;
  /** It holds the committed state, or a later one. */
  readonly isHolder: boolean;
}

/**
 * The engine of the next generation, where the workers have several. Pure.
 *
 * Rule: the one that most workers have, among those that hold the state if there are any: refusing them would lose it. Among equals the
 * engine with which the run trained before, else that of the lowest worker id: the same workers get the same engine in every run.
 * @param before undefined where the run has not trained
 */
export function chooseEngine(votes: readonly EngineVote[], before: string | undefined): string | undefined {
  const holders = votes.filter(({ isHolder }) => isHolder);
  const voters = holders.length > 0 ? holders : votes;
  const counts = new Map<string, number>();
  for (const { engineFingerprint } of voters.toSorted((a, b) => (a.workerId < b.workerId ? -1 : 1)))
    counts.set(engineFingerprint, (counts.get(engineFingerprint) ?? 0) + 1);
  const rank = ([engine, count]: [string, number]): number => 2 * count + Number(engine === before);
  return [...counts].sort((a, b) => rank(b) - rank(a))[0]?.[0];
}

/** The parts in which an engine differs, short enough for a close frame. */
export function describeOtherEngine(found: string, expected: string): string {
  const [has, wants] = [found.split('; '), expected.split('; ')];
  const other = (parts: readonly string[], than: readonly string[]): string =>
    parts.filter((part) => !than.includes(part)).join('; ') || 'nothing';
  return `other engine than the run: ${other(has, wants)} in place of ${other(wants, has)}`;
}

/** @throws MIXTURE_MISMATCH, STATE_DIVERGED (engines) where a member differs from this mixture, or from the first member's engine */
export function checkAlike(members: readonly Described[], mixtureHash: string): void {
  const { engineFingerprint } = members[0]!.facts;
  for (const { worker, facts } of members) {
    const difference = differenceOf(worker, facts, { engineFingerprint, mixtureHash });
    if (difference !== undefined) throw difference;
  }
}

/** Another engine continues from the same state, but not with the same bits: the log must say so. */
export function logOtherEngine(log: Logger, before: string | undefined, found: string): void {
  if (before === undefined || before === found) return;
  const reason = 'from here on the bits are not those of the run that did not stop';
  log.warn({ reason, expected: before, found }, 'engine changed');
}
