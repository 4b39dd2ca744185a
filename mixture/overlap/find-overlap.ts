/**
 * Compares the train split of each task with evaluation sets, and writes what they have in common beside each set.
 *
 * Memory: grams of evaluation sets up to `maxBytes`, one set, one record. If the grams of all sets take more, train is read several times.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import { listEvaluationSets, readEvaluationSet } from '../evaluation-sets/read-evaluation-sets.ts';
import type { EvaluationSetInfo, SetExample } from '../evaluation-sets/set-record.ts';
import { readSource } from '../sources/read-unit.ts';
import { resolveSource } from '../sources/resolve-source.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import type { Denoising, Mixture, SourceFields, SplitName, Task } from '../tasks/task.ts';
import { createHeldOutTest, heldOutOf } from '../tasks/train-cut.ts';
import { parseTemplate, renderTemplate } from '../tasks/template.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { createOverlapRecord, writeOverlap, type OverlapRecord } from './overlap-record.ts';
import { findPrompt, OverlapSearch, type ComparedExample } from './overlap-search.ts';
import { restoreText } from './restore-text.ts';

/** Default bound of the index of grams, bytes. */
const MAX_INDEX_BYTES = 1024 * 1024 * 1024;

export interface FindOverlapInit {
  readonly mixture: Mixture;
  /** Folder of the prepared mixture, with its evaluation sets. */
  readonly folder: string;
  readonly splits: readonly SplitName[];
  readonly access: SourceAccess;
  /** Bound of the index of grams, bytes. Default: 1 GiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
  /** Called when a train split has been compared with the sets in memory. */
  readonly onTrain?: (train: TrainSplit) => void;
}

export interface TrainSplit {
  readonly task: string;
  readonly numExamples: number;
}

export interface SetOverlap {
  readonly info: EvaluationSetInfo;
  readonly record: OverlapRecord;
}

/** The sets of the tasks of the mixture that are in memory together, as far as they are. */
interface Part {
  readonly info: EvaluationSetInfo;
  /** Number of the first example in the set. */
  readonly firstOfSet: number;
  /** Numbers in the search. */
  readonly from: number;
  readonly to: number;
}

/**
 * @returns the sets by task, split and name, each with what it has in common with train; written beside the set
 * @throws the codes of reading sets and sources; DISK_FULL, PATH_UNUSABLE, ABORTED
 */
export async function findOverlap(init: FindOverlapInit): Promise<SetOverlap[]> {
  const { mixture, folder, splits, signal, maxBytes = MAX_INDEX_BYTES } = init;
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const reading = signal === undefined ? {} : { signal };
  const trainTasks = [...mixture.tasks, ...(mixture.denoising === undefined ? [] : [mixture.denoising])];
  const names = new Set(trainTasks.map(({ name }) => name));
  const listed = await listEvaluationSets(folder, reading);
  const infos = listed.filter(({ task, split }) => names.has(task) && splits.includes(split));
  const found = new Map(infos.map((info) => [info, new Map<string, OverlapRecord['train'][number]>()]));

  const compareAll = async (search: OverlapSearch, parts: readonly Part[]): Promise<void> => {
    for (const task of trainTasks) {
      const numExamples = await compareTrain(task, search, init);
      init.onTrain?.({ task: task.name, numExamples });
      for (const { info, firstOfSet, from, to } of parts) {
        const ofSet = found.get(info)!;
        const before = ofSet.get(task.name) ?? { task: task.name, numExamples, sameInputs: [], sharedGrams: [] };
        const { sameInputs, sharedGrams } = search.overlap(from, to);
        const inSet = (number: number): number => firstOfSet + number;
        ofSet.set(task.name, {
          ...before,
          sameInputs: [...before.sameInputs, ...sameInputs.map(inSet)],
          sharedGrams: [...before.sharedGrams, ...sharedGrams.map(inSet)],
        });
      }
    }
  };

  let search = new OverlapSearch();
  let parts: Part[] = [];
  for (const info of infos) {
    const examples = (await readEvaluationSet(folder, info, reading)).map((example) =>
      comparedExample(info, example, tokenizer),
    );
    const prompt = findPrompt(examples);
    let firstOfSet = 0;
    let from = search.numExamples;
    for (const [number, example] of examples.entries()) {
      if (number % 1024 === 0) throwIfAborted(signal, `indexing ${info.task}, set ${info.name}`);
      search.add(example, prompt);
      if (search.bytes < maxBytes) continue;
      await compareAll(search, [...parts, { info, firstOfSet, from, to: search.numExamples }]);
      search = new OverlapSearch();
      parts = [];
      firstOfSet = number + 1;
      from = 0;
    }
    parts.push({ info, firstOfSet, from, to: search.numExamples });
  }
  if (search.numExamples > 0) await compareAll(search, parts);

  const overlaps: SetOverlap[] = [];
  for (const [info, ofSet] of found) {
    const record = createOverlapRecord(info, [...ofSet.values()]);
    await writeOverlap(folder, info, record);
    overlaps.push({ info, record });
  }
  return overlaps;
}

function comparedExample({ kind }: EvaluationSetInfo, example: SetExample, tokenizer: Tokenizer): ComparedExample {
  const { inputs, targets } = example;
  return kind === 'denoising' ? { texts: [restoreText(example, tokenizer)] } : { inputs, texts: [inputs, targets] };
}

/** @returns the number of train examples */
async function compareTrain(
  task: Task | Denoising,
  search: OverlapSearch,
  { access, signal }: FindOverlapInit,
): Promise<number> {
  const { fields, examplesOf } = 'preprocessor' in task ? ofTask(task) : ofText(task);
  search.startTrainSplit();
  let numExamples = 0;
  const heldOut = heldOutOf(task.splits);
  const isHeldOut = heldOut === undefined ? () => false : createHeldOutTest(heldOut, fields);
  const source = await resolveSource(task.source, access, signal);
  const options = { access, requiredFields: fields, ...(signal === undefined ? {} : { signal }) };
  for await (const batch of readSource(source, options))
    for (const record of batch) {
      // `exmix prepare` counts malformed rows; they are not trained on.
      if (!record.ok) continue;
      const examples = examplesOf(record.fields);
      // `exmix prepare` leaves the cut out of train.
      if (examples.length === 0 || isHeldOut(record.fields)) continue;
      for (const example of examples) {
        search.compare(example);
        numExamples++;
      }
    }
  return numExamples;
}

interface TrainReader {
  readonly fields: readonly string[];
  readonly examplesOf: (record: SourceFields) => readonly ComparedExample[];
}

function ofTask({ preprocessor }: Task): TrainReader {
  return {
    fields: preprocessor.fields,
    examplesOf: (record) => {
      const made = preprocessor.apply(record);
      return made.ok ? made.examples.map(({ inputs, targets }) => ({ inputs, texts: [inputs, targets] })) : [];
    },
  };
}

function ofText({ text }: Denoising): TrainReader {
  const template = parseTemplate(text);
  return {
    fields: template.fields,
    examplesOf: (record) => {
      const document = renderTemplate(template, record);
      return document.ok ? [{ texts: [document.text] }] : [];
    },
  };
}
