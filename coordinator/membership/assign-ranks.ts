/**
 * Chooses the members of the next generation and their ranks. Pure: the same workers get the same ranks in every run. Members that stay keep
 * their order, so lanes move little and the log stays readable.
 *
 * Assumption: worker ids are unique.
 */
import { listNames } from '../../shared/list-names.ts';

export interface RankAssignment {
  /** Worker ids in rank order. */
  readonly members: readonly string[];
  /** One sentence for the log. */
  readonly reason: string;
}

/**
 * Definition: members of the previous generation that are ready come first, in their old order; then the other ready workers in the
 * order of their ids; at most `maxWorkers` of them all.
 * @param previous members of the last generation in rank order; none before the first
 */
export function assignRanks(previous: readonly string[], ready: readonly string[], maxWorkers: number): RankAssignment {
  const isReady = new Set(ready);
  const wasMember = new Set(previous);
  const survivors = previous.filter((workerId) => isReady.has(workerId));
  const newcomers = ready.filter((workerId) => !wasMember.has(workerId)).toSorted(compareIds);
  const ordered = [...survivors, ...newcomers];
  const members = ordered.slice(0, maxWorkers);
  const spare = ordered.slice(maxWorkers);
  const isMember = new Set(members);
  const gone = previous.filter((workerId) => !isReady.has(workerId));
  const parts = [
    { names: members.filter((workerId) => wasMember.has(workerId)), text: 'kept in order' },
    { names: newcomers.filter((workerId) => isMember.has(workerId)), text: previous.length === 0 ? 'by id' : 'new' },
    { names: gone, text: 'gone' },
    { names: spare, text: `left out, at most ${maxWorkers} take part` },
  ];
  const changes = parts.filter(({ names }) => names.length > 0).map(({ names, text }) => `${listNames(names)} ${text}`);
  const count = `${members.length} ${members.length === 1 ? 'worker' : 'workers'}`;
  return { members, reason: [count, changes.join('; ')].filter((text) => text !== '').join(': ') };
}

/** By code unit: the same order on every machine, whatever its language. */
function compareIds(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
