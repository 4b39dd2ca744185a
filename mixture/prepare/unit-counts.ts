/**
 * Counts of rows and tokens of a unit, and their sums over the units of a task.
 *
 * Definition: for each unit and each task rows.read = rows.withExamples + rows.leftOut + rows.malformed + rows.heldOut, and for
 * denoising tokensIn = numTokens + dropped.longDocuments + dropped.remainder.
 */
import { z } from 'zod';
import { assertInvariant } from '../../shared/errors.ts';
import { countSchema as count } from './prepared-format.ts';

/** Number of malformed rows that are shown in full. */
export const NUM_SHOWN_ROWS = 5;
/** Number of kinds of malformed rows that are counted separately. Further kinds are counted together. */
export const MAX_KINDS = 24;
export const OTHER_KINDS = 'other reasons';

export const unitCountsSchema = z.strictObject({
  numExamples: count,
  /** Tokens stored. Supervised: inputs and targets with EOS. Denoising: raw tokens. */
  numTokens: count,
  rows: z.strictObject({
    read: count,
    withExamples: count,
    /** The preprocessor gave no example on purpose. */
    leftOut: count,
    malformed: count,
    /** Held out for evaluation. Missing if the task has an evaluation set of its own. */
    heldOut: count.exactOptional(),
  }),
  /** Examples cut to the feature lengths, and the number of tokens cut. */
  truncated: z.strictObject({ inputs: count, targets: count, tokens: count }),
  /** Denoising: tokens of all documents. 0 for a supervised task. */
  tokensIn: count,
  /** Denoising: tokens of long documents outside their chunk, and tokens after the last full segment. */
  dropped: z.strictObject({ longDocuments: count, remainder: count }),
  /** Malformed rows by kind of reason, in order of appearance. */
  malformedKinds: z.array(z.strictObject({ reason: z.string(), rows: count })).max(MAX_KINDS + 1),
  /** The first malformed rows. */
  malformedFirst: z.array(z.strictObject({ file: z.string(), row: count, reason: z.string() })).max(NUM_SHOWN_ROWS),
});

export type UnitCounts = z.infer<typeof unitCountsSchema>;

/** Sums over units, in their order. No units give zeros. */
export function addCounts(units: readonly UnitCounts[]): UnitCounts {
  const sum = (pick: (counts: UnitCounts) => number) => units.reduce((total, counts) => total + pick(counts), 0);
  const kinds = new Map<string, number>();
  for (const { malformedKinds } of units) for (const { reason, rows } of malformedKinds) addKind(kinds, reason, rows);
  return {
    numExamples: sum(({ numExamples }) => numExamples),
    numTokens: sum(({ numTokens }) => numTokens),
    rows: {
      read: sum(({ rows }) => rows.read),
      withExamples: sum(({ rows }) => rows.withExamples),
      leftOut: sum(({ rows }) => rows.leftOut),
      malformed: sum(({ rows }) => rows.malformed),
      ...(units.some(({ rows }) => rows.heldOut !== undefined)
        ? { heldOut: sum(({ rows }) => rows.heldOut ?? 0) }
        : {}),
    },
    truncated: {
      inputs: sum(({ truncated }) => truncated.inputs),
      targets: sum(({ truncated }) => truncated.targets),
      tokens: sum(({ truncated }) => truncated.tokens),
    },
    tokensIn: sum(({ tokensIn }) => tokensIn),
    dropped: {
      longDocuments: sum(({ dropped }) => dropped.longDocuments),
      remainder: sum(({ dropped }) => dropped.remainder),
    },
    malformedKinds: listKinds(kinds),
    malformedFirst: units.flatMap(({ malformedFirst }) => malformedFirst).slice(0, NUM_SHOWN_ROWS),
  };
}

/** Counts rows of a kind. After MAX_KINDS kinds, new kinds count as OTHER_KINDS. */
export function addKind(kinds: Map<string, number>, reason: string, rows: number): void {
  const isKnown =
    kinds.has(reason) || (kinds.size - Number(kinds.has(OTHER_KINDS)) < MAX_KINDS && reason !== OTHER_KINDS);
  const key = isKnown ? reason : OTHER_KINDS;
  kinds.set(key, (kinds.get(key) ?? 0) + rows);
}

/** In order of appearance, the other reasons last. */
export function listKinds(kinds: ReadonlyMap<string, number>): UnitCounts['malformedKinds'] {
  const entries = [...kinds].filter(([reason]) => reason !== OTHER_KINDS);
  const others = kinds.get(OTHER_KINDS);
  if (others !== undefined) entries.push([OTHER_KINDS, others]);
  return entries.map(([reason, rows]) => ({ reason, rows }));
}

/** @throws INTERNAL if a row or a token is not accounted for @param what names the unit or task */
export function checkCounts(counts: UnitCounts, kind: 'supervised' | 'denoising', what: string): void {
  const { rows, dropped } = counts;
  assertInvariant(
    rows.read === rows.withExamples + rows.leftOut + rows.malformed + (rows.heldOut ?? 0),
    `${what}: ${rows.read} rows read, but ${rows.withExamples} gave examples, ${rows.leftOut} were left out, ${rows.malformed} are malformed ` +
      `and ${rows.heldOut ?? 0} held out`,
  );
  const kinds = counts.malformedKinds.reduce((sum, kindOf) => sum + kindOf.rows, 0);
  assertInvariant(kinds === rows.malformed, `${what}: ${rows.malformed} malformed rows, ${kinds} with a reason`);
  if (kind === 'supervised') return;
  const accounted = counts.numTokens + dropped.longDocuments + dropped.remainder;
  assertInvariant(
    counts.tokensIn === accounted,
    `${what}: ${counts.tokensIn} tokens of documents, but ${accounted} are stored or counted as dropped`,
  );
}
