/**
 * Gradient digests of committed steps that are in no checkpoint and may be trained again: an immutable list, the newest first. Pure.
 *
 * Bound: the newest MAX_DIGESTS / 2 to MAX_DIGESTS. A step may be in it twice; its newest commit counts.
 */

/** Checksum of the summed gradient, uint32. */
export type StepDigest = number | 'skipped';

export interface CommittedDigests {
  readonly step: number;
  readonly gradDigest: StepDigest;
  readonly before: CommittedDigests | undefined;
  /** Number of digests, this one included. */
  readonly length: number;
}

export const MAX_DIGESTS = 65_536;

export function addDigest(
  before: CommittedDigests | undefined,
  step: number,
  gradDigest: StepDigest,
): CommittedDigests {
  const kept = before !== undefined && before.length >= MAX_DIGESTS ? filter(before, MAX_DIGESTS / 2) : before;
  return { step, gradDigest, before: kept, length: (kept?.length ?? 0) + 1 };
}

/** Without steps that cannot be trained again, or may get another gradient. */
export function keepDigests(
  digests: CommittedDigests | undefined,
  keeps: (step: number) => boolean,
): CommittedDigests | undefined {
  return filter(digests, MAX_DIGESTS, keeps);
}

/** Digest of the newest commit of a step; undefined where it is not known. */
export function digestOf(digests: CommittedDigests | undefined, step: number): StepDigest | undefined {
  for (let entry = digests; entry !== undefined; entry = entry.before) if (entry.step === step) return entry.gradDigest;
  return undefined;
}

/** The newest `most` that are kept. */
function filter(
  digests: CommittedDigests | undefined,
  most: number,
  keeps: (step: number) => boolean = () => true,
): CommittedDigests | undefined {
  const kept: CommittedDigests[] = [];
  for (let entry = digests; entry !== undefined && kept.length < most; entry = entry.before)
    if (keeps(entry.step)) kept.push(entry);
  let result: CommittedDigests | undefined;
  for (const { step, gradDigest } of kept.reverse())
    result = { step, gradDigest, before: result, length: (result?.length ?? 0) + 1 };
  return result;
}
