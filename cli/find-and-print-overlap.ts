/** `exmix tasks overlap`: makes the evaluation sets that are missing, compares train with them, and prints what they have in common. */
import { parseSplits } from '../mixture/evaluation-sets/declared-sets.ts';
import { prepareEvaluationSets } from '../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import { findOverlap, type SetOverlap } from '../mixture/overlap/find-overlap.ts';
import { leakedExamples } from '../mixture/overlap/overlap-record.ts';
import { createSourceAccess, reportRetries } from '../mixture/sources/source-access.ts';
import { standardError } from '../shared/standard-streams.ts';
import type { ChosenMixture } from './mixture-options.ts';
import { untilInterrupted } from './process-signals.ts';
import { formatNumber, formatTable } from './text-table.ts';

/**
 * @returns the output of the command @throws the codes of prepareEvaluationSets and findOverlap
 */
export async function findAndPrintOverlap(
  { mixture, featureLengths, folder }: ChosenMixture,
  { splits: names, json }: { readonly splits: readonly string[]; readonly json: boolean },
): Promise<string> {
  const splits = parseSplits(names);
  const onNote = (line: string): void => {
    standardError.write(`${line}\n`);
  };
  const access = reportRetries(createSourceAccess(), onNote);
  const overlaps = await untilInterrupted(async (signal) => {
    await prepareEvaluationSets({
      ...{ mixture, featureLengths, outDir: folder, splits, access, signal, onNote },
      onSet: ({ info, outcome }) => {
        if (outcome === 'prepared') onNote(`made the set ${info.name} of ${info.task}: ${info.numExamples} examples`);
      },
      onAbsent: ({ task, name, reason }) => {
        onNote(`no set ${name} of ${task}: ${reason}`);
      },
    });
    return findOverlap({
      ...{ mixture, folder, splits, access, signal },
      onTrain: ({ task, numExamples }) => {
        onNote(`compared with ${task}: ${formatNumber(numExamples)} train examples`);
      },
    });
  });
  return json ? `${JSON.stringify(overlaps.map(describe))}\n` : formatOverlaps(overlaps);
}

/** Contract of `--json`: names stay. */
function describe({ info, record }: SetOverlap) {
  const { task, split, name, hash, numExamples } = info;
  return {
    ...{ task, split, name, hash, numExamples },
    leaked: [...leakedExamples(record)].sort((a, b) => a - b),
    train: record.train,
  };
}

function formatOverlaps(overlaps: readonly SetOverlap[]): string {
  const pairs = overlaps.flatMap(({ info, record }) =>
    record.train
      .filter(({ sameInputs, sharedGrams }) => sameInputs.length + sharedGrams.length > 0)
      .map(({ task, sameInputs, sharedGrams }) => [
        ...[info.task, info.name, info.numExamples, task, sameInputs.length, sharedGrams.length],
        new Set([...sameInputs, ...sharedGrams]).size,
      ]),
  );
  const numLeaked = overlaps.reduce((sum, { record }) => sum + leakedExamples(record).size, 0);
  const numExamples = overlaps.reduce((sum, { info }) => sum + info.numExamples, 0);
  const total = `${formatNumber(numLeaked)} of ${formatNumber(numExamples)} examples of ${overlaps.length} evaluation sets are in train\n`;
  if (pairs.length === 0) return total;
  const head = ['task', 'set', 'examples', 'in train of', 'same inputs', '13-grams', 'leaked'];
  return `${formatTable(head, pairs)}${total}`;
}
