/**
 * Decides which ranks are wrong where all must hold the same bytes and do not. Pure.
 *
 * Assumption: ranks go wrong independently (a bit flips, a device computes wrongly), so the bytes of more than half of all ranks are right.
 * Without such a majority, as with two ranks that differ, no rank can be called right or wrong.
 */
import { listRanks } from '../../shared/list-names.ts';

/** Digests that a sentence names at most. */
const MAX_NAMED_GROUPS = 8;

/** The digest that a rank reports, as text. */
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
      /** Ranks that differ from the majority, ascending. */
      readonly ranks: readonly number[];
      /** The digest of more than half of all ranks. */
      readonly majority: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'no-majority';
      /** By the number of ranks, descending; then by the lowest rank. */
      readonly groups: readonly DigestGroup[];
      readonly reason: string;
    };

/** @param reports one for each rank */
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
  const named = groups.slice(0, MAX_NAMED_GROUPS).map(({ digest, ranks }) => `${digest} on ${listRanks(ranks)}`);
  const numMore = groups.length - named.length;
  const held = [...named, ...(numMore > 0 ? [`${numMore} more`] : [])].join('; ');
  const share = `${largest.ranks.length} of ${reports.length} ranks`;
  if (2 * largest.ranks.length > reports.length) {
    const ranks = others.flatMap((group) => group.ranks).sort((a, b) => a - b);
    const verb = ranks.length === 1 ? 'is' : 'are';
    const reason = `${listRanks(ranks)} ${verb} wrong: ${largest.digest} is on ${share}, more than half (${held})`;
    return { kind: 'outliers', ranks, majority: largest.digest, reason };
  }
  const reason = `no rank can be called right or wrong: no digest is on more than half of the ranks, at most ${share} agree (${held})`;
  return { kind: 'no-majority', groups, reason };
}

/** CRC-32 as eight hex digits, the form of the log. */
export function formatDigest(digest: number): string {
  return digest.toString(16).padStart(8, '0');
}

/**
 * Decides whether the members of a new generation hold the same state, by the digests that they report.
 * @param reports one for each rank
 * @param expected digest of the checkpoint that all have loaded; undefined: the digest of more than half of them is right
 */
export function judgeProofs(reports: readonly DigestReport[], expected: string | undefined): DigestVerdict {
  if (expected === undefined) return judgeDigests(reports);
  const wrong = reports.filter(({ digest }) => digest !== expected);
  if (wrong.length === 0) return { kind: 'agree' };
  const found = wrong.map(({ rank, digest }) => `${digest} on rank ${rank}`).join('; ');
  if (wrong.length === reports.length) {
    const groups = wrong.map(({ rank, digest }) => ({ digest, ranks: [rank] }));
    return { kind: 'no-majority', groups, reason: `no rank has ${expected}, the digest of the checkpoint (${found})` };
  }
  const ranks = wrong.map(({ rank }) => rank);
  const verb = ranks.length === 1 ? 'is' : 'are';
  const reason = `${listRanks(ranks)} ${verb} wrong: expected ${expected}, the digest of the checkpoint (${found})`;
  return { kind: 'outliers', ranks, majority: expected, reason };
}
