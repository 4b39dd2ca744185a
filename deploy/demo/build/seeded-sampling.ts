/**
 * Duty: every random choice of the demo's build, grouping and duplicates. One seed; each purpose has its own stream, so a change in one task leaves the
 * bytes of all others as they are.
 * Assumes that callers pass their candidates in a fixed order (that of the package's files, or sorted).
 */

import { RandomStream, hashName } from '../../../shared/random.ts';

/** The number of the ExT5 paper, arXiv 2111.10952. */
const SEED = 211110952;

/** The stream of one purpose, e.g. 'wn_entails'. */
export function createStream(purpose: string): RandomStream {
  return new RandomStream([SEED, hashName(purpose)]);
}

/** A new array with the same items in random order. */
export function shuffled<T>(items: readonly T[], purpose: string): T[] {
  const order = Uint32Array.from(items.keys());
  createStream(purpose).shuffle(order);
  return Array.from(order, (index) => items[index]!);
}

/** `count` items (all where there are fewer) without replacement, in their old order, which compresses best. */
export function sampleInOrder<T>(items: readonly T[], count: number, purpose: string): T[] {
  const order = Uint32Array.from(items.keys());
  createStream(purpose).shuffle(order);
  return Array.from(order.subarray(0, count).sort(), (index) => items[index]!);
}

/** At most `cap` items of each group, chosen at random; the old order stays. @param groupOf names the group of an item */
export function sampleEachGroup<T>(
  items: readonly T[],
  cap: number,
  groupOf: (item: T) => string,
  purpose: string,
): T[] {
  const taken = new Map<string, number>();
  const chosen = new Set<T>();
  for (const item of shuffled(items, purpose)) {
    const count = taken.get(groupOf(item)) ?? 0;
    if (count === cap) continue;
    taken.set(groupOf(item), count + 1);
    chosen.add(item);
  }
  return items.filter((item) => chosen.has(item));
}

/** Group name → its items, both in order of first appearance. (Map.groupBy needs Node 21.) */
export function groupInOrder<T>(items: Iterable<T>, groupOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const name = groupOf(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return groups;
}

/** The first item of each key, in the old order. */
export function distinctBy<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return Array.from(groupInOrder(items, keyOf).values(), (group) => group[0]!);
}
