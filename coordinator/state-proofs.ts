/** Whether the members of a new generation hold the same state, from the digests they prove it with. Pure. */
import { judgeDigests, type DigestReport, type DigestVerdict } from './divergence.ts';
import { nameRanks } from './name-some.ts';

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
  const reason = `${nameRanks(ranks)} ${verb} wrong: expected ${expected}, the digest of the checkpoint (${found})`;
  return { kind: 'outliers', ranks, majority: expected, reason };
}
