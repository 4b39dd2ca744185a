/** Reference files of decoding (golden/generate): what our searches give on an engine, in the form of the file. */
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import { filterTokens } from '../../evaluation/decoding/sampling.ts';
import type { Hypothesis } from '../../evaluation/decoding/search.ts';
import { parseDecodingSettings, type DecodingSettings } from '../../evaluation/decoding/settings.ts';
import type { Batch, Engine, GenerationInputs } from '../../worker/engine/engine.ts';
import type { GoldenCase } from './metric-cases.ts';

/** Of log-probabilities; beam scores may differ by 1e-6 of their size more. */
export const DECODING_TOLERANCE = 2e-5;

type Rows = readonly (readonly number[])[];

/** Differences of one file. */
export interface GenerateReport {
  numCases: number;
  worst: number;
  readonly failures: string[];
}

/** The kind of a file by its fields; undefined for other files. */
export function generateKind(content: GoldenCase): 'greedy' | 'beam' | 'beam-t5x' | 'next-token' | 'score' | undefined {
  if (typeof content['model'] !== 'string') return undefined;
  if ('probability_tolerance' in content) return 'next-token';
  if ('labels' in content) return 'score';
  const [first] = (content['cases'] ?? []) as readonly GoldenCase[];
  if (first === undefined) return undefined;
  const options = first['options'] as Readonly<Record<string, unknown>>;
  return 'num_decodes' in options ? 'beam-t5x' : 'num_beams' in options ? 'beam' : 'greedy';
}

function inputsOf(place: GoldenCase): GenerationInputs {
  const ids = place['input_ids'] as Rows;
  const mask = place['attention_mask'] as Rows;
  return {
    numRows: ids.length,
    inputsLength: ids[0]!.length,
    encoderInputIds: Int32Array.from(ids.flat()),
    encoderSegmentIds: Int32Array.from(mask.flat()),
  };
}

/** Transformers' and T5X's option names as ours. */
function settingsOf(options: Readonly<Record<string, unknown>>): DecodingSettings {
  const common = {
    maxNewTokens: options['max_new_tokens'] ?? options['max_decode_len'],
    minNewTokens: options['min_new_tokens'],
    noRepeatNgramSize: options['no_repeat_ngram_size'],
    repetitionPenalty: options['repetition_penalty'],
    forcedEos: options['forced_eos_token_id'] === undefined ? undefined : true,
  };
  const given = <Settings extends object>(settings: Settings): Settings =>
    Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Settings;
  if ('num_decodes' in options) {
    const numBeams = options['num_decodes'];
    return parseDecodingSettings(
      given({ method: 'beam-t5x', ...common, numBeams, numReturnSequences: numBeams, alpha: options['alpha'] }) as never,
    );
  }
  if ('num_beams' in options) {
    return parseDecodingSettings(
      given({
        method: 'beam',
        ...common,
        numBeams: options['num_beams'],
        lengthPenalty: options['length_penalty'],
        earlyStopping: options['early_stopping'],
        numReturnSequences: options['num_return_sequences'],
      }) as never,
    );
  }
  return parseDecodingSettings(given({ method: 'greedy', ...common }) as never);
}

async function decode(engine: Engine, inputs: GenerationInputs, settings: DecodingSettings): Promise<readonly (readonly Hypothesis[])[]> {
  const decoding = await engine.startDecoding(inputs);
  try {
    const searches = Array.from({ length: inputs.numRows }, (_, row) => createSearch(settings, row, decoding.vocabSize));
    return await decodeBatch(decoding, searches);
  } finally {
    decoding.dispose();
  }
}

function compareScore(ours: number, reference: number, relative: number, place: string, report: GenerateReport): void {
  const difference = Math.abs(ours - reference);
  report.worst = Math.max(report.worst, difference);
  if (!(difference <= DECODING_TOLERANCE + relative * Math.abs(reference))) report.failures.push(`${place}: ours ${ours}, reference ${reference}`);
}

function compareIds(ours: readonly number[], reference: readonly number[], place: string, report: GenerateReport): void {
  if (ours.length !== reference.length || ours.some((id, at) => id !== reference[at])) {
    report.failures.push(`${place}: ours ${ours.join(' ')}, reference ${reference.join(' ')}`);
  }
}

/** Every case of a file on an engine that has the file's model loaded. */
export async function checkGenerateFile(content: GoldenCase, engine: Engine): Promise<GenerateReport> {
  const report: GenerateReport = { numCases: 0, worst: 0, failures: [] };
  switch (generateKind(content)) {
    case 'greedy':
      await checkGreedy(content, engine, report);
      break;
    case 'beam':
    case 'beam-t5x':
      await checkBeams(content, engine, report);
      break;
    case 'next-token':
      checkNextToken(content, report);
      break;
    case 'score':
      await checkScores(content, engine, report);
      break;
    case undefined:
      report.failures.push('not a file of decoding');
  }
  if (report.numCases === 0) report.failures.push('nothing was compared');
  return report;
}

async function checkGreedy(content: GoldenCase, engine: Engine, report: GenerateReport): Promise<void> {
  for (const one of content['cases'] as readonly GoldenCase[]) {
    const settings = settingsOf(one['options'] as never);
    const found = await decode(engine, inputsOf(one), settings);
    (one['rows'] as readonly { ids: number[]; sum_logprob: number }[]).forEach(({ ids, sum_logprob: sum }, row) => {
      const place = `${String(one['name'])} row ${row}`;
      compareIds(found[row]![0]!.ids, ids, place, report);
      compareScore(found[row]![0]!.logProbability / ids.length, sum / ids.length, 0, place, report);
    });
    report.numCases++;
  }
}

interface WantedHypothesis {
  readonly ids: readonly number[];
  readonly score: number;
}

async function checkBeams(content: GoldenCase, engine: Engine, report: GenerateReport): Promise<void> {
  for (const one of content['cases'] as readonly GoldenCase[]) {
    const found = await decode(engine, inputsOf('input_ids' in one ? one : content), settingsOf(one['options'] as never));
    (one['rows'] as readonly { hypotheses: readonly WantedHypothesis[] }[]).forEach(({ hypotheses }, row) => {
      hypotheses.forEach(({ ids, score }, rank) => {
        const place = `${JSON.stringify(one['options'])} row ${row} hypothesis ${rank}`;
        const ours = found[row]![rank];
        compareIds(ours?.ids ?? [], ids, place, report);
        compareScore(ours?.score ?? NaN, score, 1e-6, place, report);
      });
    });
    report.numCases++;
  }
}

/** The distribution from the file's logits. */
function checkNextToken(content: GoldenCase, report: GenerateReport): void {
  const logits = content['logits'] as Rows;
  interface Row {
    readonly row: number;
    readonly kept: number;
    /** All kept tokens, or the 60 likeliest. */
    readonly probabilities?: readonly (readonly [id: number, probability: number])[];
    readonly top?: readonly (readonly [id: number, probability: number])[];
  }
  for (const one of content['cases'] as readonly GoldenCase[]) {
    const options = one['options'] as Readonly<Record<string, number | undefined>>;
    for (const { row, kept, probabilities: all, top = all ?? [] } of one['rows'] as readonly Row[]) {
      const tokens = logits[row]!.map((score, id) => ({ id, score })).sort((a, b) => b.score - a.score || a.id - b.id);
      const ours = filterTokens(tokens, {
        temperature: options['temperature'] ?? 1,
        topK: options['top_k'] ?? 0,
        topP: options['top_p'] ?? 1,
        minP: options['min_p'] ?? 0,
      });
      const place = `${JSON.stringify(options)} row ${row}`;
      if (ours.length !== kept) report.failures.push(`${place}: ours keeps ${ours.length}, reference ${kept}`);
      const probabilities = new Map(ours.map(({ id, probability }) => [id, probability]));
      for (const [id, probability] of top) compareScore(probabilities.get(id) ?? NaN, probability, 0, `${place} token ${id}`, report);
    }
    report.numCases++;
  }
}

/** Log-likelihoods of given targets, and the choice among labels. */
async function checkScores(content: GoldenCase, engine: Engine, report: GenerateReport): Promise<void> {
  const inputs = content['input_ids'] as Rows;
  const targets = (content['labels'] as Rows).map((row) => row.filter((id) => id >= 0));
  const found = await scoreTargets(engine, inputs, content['attention_mask'] as Rows, targets);
  (content['rows'] as readonly { token_logprobs: number[] }[]).forEach(({ token_logprobs: wanted }, row) => {
    wanted.forEach((reference, at) => {
      compareScore(found[row]![at]!, reference, 0, `row ${row} token ${at}`, report);
    });
    report.numCases++;
  });
  interface Choice {
    readonly input_ids: readonly number[];
    readonly labels: Rows;
    readonly sum_logprobs: readonly number[];
    readonly best_by_sum: number;
    readonly best_by_mean: number;
  }
  for (const [number, choice] of (content['rank_classification'] as readonly Choice[]).entries()) {
    const rows = choice.labels.map(() => choice.input_ids);
    const scores = await scoreTargets(engine, rows, rows.map((row) => row.map(() => 1)), choice.labels); // prettier-ignore
    const sums = scores.map((one) => one.reduce((sum, value) => sum + value, 0));
    const means = sums.map((sum, label) => sum / choice.labels[label]!.length);
    const best = (values: readonly number[]): number => values.indexOf(Math.max(...values));
    sums.forEach((sum, label) => {
      compareScore(sum, choice.sum_logprobs[label]!, 1e-6, `choice ${number} label ${label}`, report);
    });
    compareIds([best(sums), best(means)], [choice.best_by_sum, choice.best_by_mean], `choice ${number}`, report);
    report.numCases++;
  }
}

/** Log-probabilities of each target token. */
async function scoreTargets(engine: Engine, inputs: Rows, mask: Rows, targets: Rows): Promise<readonly (readonly number[])[]> {
  const targetsLength = Math.max(...targets.map(({ length }) => length));
  const pad = (rows: Rows, length: number): Int32Array =>
    Int32Array.from(rows.flatMap((row) => Array.from({ length }, (_, at) => row[at] ?? 0)));
  const inputsLength = Math.max(...inputs.map(({ length }) => length));
  const batch: Batch = {
    numRows: inputs.length,
    inputsLength,
    targetsLength,
    encoderInputIds: pad(inputs, inputsLength),
    encoderSegmentIds: pad(mask, inputsLength),
    decoderInputIds: pad(targets.map((row) => [0, ...row.slice(0, -1)]), targetsLength), // prettier-ignore
    decoderSegmentIds: pad(targets.map((row) => row.map(() => 1)), targetsLength), // prettier-ignore
    labels: pad(targets, targetsLength),
  };
  const { crossEntropy } = await engine.score(batch);
  return targets.map((row, at) => row.map((_, place) => -crossEntropy[at * targetsLength + place]!));
}
