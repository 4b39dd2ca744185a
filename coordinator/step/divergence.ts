/**
 * Ranks that must hold the same bytes and do not: who is wrong. Pure.
 *
 * Assumption: a rank goes wrong by itself (a bit flips, a device computes wrongly), so what more than half of all ranks hold is right.
 * Where no such majority is, nobody can be told right from wrong: two ranks that differ are such a case.
 */
import { listNames, listRanks } from '../../shared/list-names.ts';

/** A sentence says so many digests. */
const MAX_NAMED_GROUPS = 8;

/** What a rank says it holds, as text that differs where the bytes do (formatDigest of open-steps.ts, or a hash). */
export interface DigestReport {
  readonly rank: number;
  readonly digest: string;
}

export interface DigestGroup {
  readonly digest: string;
  readonly ranks: readonly number[];
}

export type DigestVerdict =
  | { readonly kind: 'agree' }
  | {
      readonly kind: 'outliers';
      /** Ranks that hold something else than the majority, ascending. */
      readonly ranks: readonly number[];
      /** Digest of more than half of all ranks. */
      readonly majority: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'no-majority';
      /** Most ranks first, then the lowest rank first. */
      readonly groups: readonly DigestGroup[];
      readonly reason: string;
    };

/** @param reports one of every rank */
export function judgeDigests(reports: readonly DigestReport[]): DigestVerdict {
  const ranksOf = new Map<string, number[]>();
  for (const { rank, digest } of reports.toSorted((a, b) => a.rank - b.rank)) {
    const ranks = ranksOf.get(digest);
    if (ranks === undefined) ranksOf.set(digest, [rank]);
    else ranks.push(rank);
  }
  const groups = [...ranksOf]
    .map(([digest, ranks]) => ({ digest, ranks }))
    .sort((a, b) => b.ranks.length - a.ranks.length || a.ranks[0]! - b.ranks[0]!);
  const [largest, ...others] = groups;
  if (largest === undefined || others.length === 0) return { kind: 'agree' };
  const named = groups.map(({ digest, ranks }) => `${digest} on ${listRanks(ranks)}`);
  const held = listNames(named, { most: MAX_NAMED_GROUPS, separator: '; ' });
  const share = `${largest.ranks.length} of ${reports.length} ranks`;
  if (2 * largest.ranks.length > reports.length) {
    const ranks = others.flatMap((group) => group.ranks).sort((a, b) => a - b);
    const verb = ranks.length === 1 ? 'is' : 'are';
    const reason = `${listRanks(ranks)} ${verb} wrong: ${largest.digest} is on ${share}, more than half (${held})`;
    return { kind: 'outliers', ranks, majority: largest.digest, reason };
  }
  const reason = `nobody can be told right from wrong: no digest is on more than half of the ranks, at most ${share} agree (${held})`;
  return { kind: 'no-majority', groups, reason };
}

/** CRC-32 as eight hex digits, the form of the log. */
export function formatDigest(digest: number): string {
  return digest.toString(16).padStart(8, '0');
}

// FOLDED divergence.ts
/** Whether the members of a new generation hold the same state, from the digests they prove it with. Pure. */

/**
 * @param reports one of every rank
 * @param expected digest of the checkpoint that all have loaded; undefined: what more than half of them hold is right
 */
export function judgeProofs(reports: readonly DigestReport[], expected: string | undefined): DigestVerdict {
  if (expected === undefined) return judgeDigests(reports);
  const wrong = reports.filter(({ digest }) => digest !== expected);
  if (wrong.length === 0) return { kind: 'agree' };
  const found = wrong.map(({ rank, digest }) => `${digest} on rank ${rank}`).join('; ');
  if (wrong.length === reports.length) {
    const groups = wrong.map(({ rank, digest }) => ({ digest, ranks: [rank] }));
    return { kind: 'no-majority', groups, reason: `nobody has ${expected}, the digest of the checkpoint (${found})` };
  }
  const ranks = wrong.map(({ rank }) => rank);
  const verb = ranks.length === 1 ? 'is' : 'are';
  const reason = `${listRanks(ranks)} ${verb} wrong: expected ${expected}, the digest of the checkpoint (${found})`;
  return { kind: 'outliers', ranks, majority: expected, reason };
}
