/**
 * Duty: random choices, groups and duplicates of the demo's build. All streams share one seed, and each purpose has its
 * own stream, so a change in one task leaves the bytes of the others unchanged.
 * Assumptions: callers pass candidates in a fixed order (the order of the package's files, or sorted).
 */

import { RandomStream, hashName } from '../../../shared/random.ts';

/** From the number of the ExT5 paper, arXiv 2111.10952. */
const SEED = 211110952;

/** The random stream of one purpose, for example wn_entails. */
export function createStream(purpose: string): RandomStream {
  return new RandomStream([SEED, hashName(purpose)]);
}

/** @returns a new array with the same items in random order */
export function shuffled<T>(items: readonly T[], purpose: string): T[] {
  const order = Uint32Array.from(items.keys());
  createStream(purpose).shuffle(order);
  return Array.from(order, (index) => items[index]!);
}

/**
 * Samples `count` items (or all, if there are fewer) without replacement and keeps their order, because that compresses
 * best.
 */
export function sampleInOrder<T>(items: readonly T[], count: number, purpose: string): T[] {
  const order = Uint32Array.from(items.keys());
  createStream(purpose).shuffle(order);
  return Array.from(order.subarray(0, count).sort(), (index) => items[index]!);
}

/** Samples at most `cap` items of each group and keeps their order. @param groupOf returns the group name of an item */
export function sampleEachGroup<T>(
  items: readonly T[],
  cap: number,
  groupOf: (item: T) => string,
  purpose: string,
): T[] {
  const counts = new Map<string, number>();
  const chosen = new Set<T>();
  for (const item of shuffled(items, purpose)) {
    const count = counts.get(groupOf(item)) ?? 0;
    if (count === cap) continue;
    counts.set(groupOf(item), count + 1);
    chosen.add(item);
  }
  return items.filter((item) => chosen.has(item));
}

/** Group name → its items. Groups and items are in order of first appearance. (Map.groupBy needs Node 21.) */
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

/** @returns the first item of each key, in the order of `items` */
export function distinctBy<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return Array.from(groupInOrder(items, keyOf).values(), (group) => group[0]!);
}
