/** Windows of texts through a model, with progress; the output may be a file that a stopped command continues. */
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Generated, TextModel } from '../../worker/inference/text-model.ts';
import type { OutputFile } from './output-file.ts';

/** Texts that are read, sorted and written together. */
const WINDOW = 1_024;

export interface RunGenerateInit {
  readonly model: Pick<TextModel, 'generate'>;
  readonly inputs: AsyncIterable<string>;
  readonly settings: DecodingSettings;
  readonly batchTokens: number;
  readonly maxInputTokens: number;
  /** Undefined: lines go to `print`. */
  readonly output: OutputFile | undefined;
  /** @returns false if nobody reads any more */
  readonly print: (lines: string) => Promise<boolean>;
  readonly onProgress: (sentence: string) => void;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface GenerateSummary {
  readonly numGenerated: number;
  /** Lines that the output had already. */
  readonly numEarlier: number;
  /** Inputs that were cut to the longest length. */
  readonly numCut: number;
}

/** @throws CONFIG_INVALID if the inputs are not those of the earlier lines; ABORTED; what the model and the output throw */
export async function runGenerate(init: RunGenerateInit): Promise<GenerateSummary> {
  const { output, print, onProgress, clock, signal } = init;
  const startMs = clock.monotonicMs();
  const inputs = init.inputs[Symbol.asyncIterator]();
  const numEarlier = output === undefined ? 0 : await skipEarlier(inputs, output.earlier);
  let numGenerated = 0;
  let numCut = 0;
  for (;;) {
    throwIfAborted(signal, 'generating');
    const texts = await readWindow(inputs);
    if (texts.length === 0) break;
    const results = await init.model.generate(texts, { ...init, firstExample: numEarlier + numGenerated });
    const lines = texts.map((text, at) => formatLine(numEarlier + numGenerated + at, text, results[at]!));
    if (output !== undefined) await output.append(lines);
    else if (!(await print(lines.map((line) => `${line}\n`).join('')))) break;
    numGenerated += texts.length;
    numCut += results.filter((result) => result.numCut > 0).length;
    const perSecond = (1000 * numGenerated) / Math.max(1, clock.monotonicMs() - startMs);
    onProgress(`${numEarlier + numGenerated} examples, ${perSecond.toFixed(1)} examples/s`);
  }
  return { numGenerated, numEarlier, numCut };
}

async function readWindow(inputs: AsyncIterator<string>): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < WINDOW) {
    const next = await inputs.next();
    if (next.done === true) break;
    texts.push(next.value);
  }
  return texts;
}

/** Passes the inputs whose lines are there. @returns their number */
async function skipEarlier(inputs: AsyncIterator<string>, earlier: AsyncIterable<string>): Promise<number> {
  let count = 0;
  for await (const before of earlier) {
    const next = await inputs.next();
    count++;
    if (next.done === true || next.value !== before) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `the output is of other inputs: its line ${count} has ${JSON.stringify(before.slice(0, 60))}, ` +
          `the input ${next.done === true ? 'has ended' : JSON.stringify(next.value.slice(0, 60))}; name another --output`,
      );
    }
  }
  return count;
}

/** `prediction` is the best output; `predictions` has all, if there are several. */
function formatLine(index: number, inputs: string, { hypotheses, numCut }: Generated): string {
  const [best] = hypotheses;
  return JSON.stringify({
    index,
    inputs,
    prediction: best?.text ?? '',
    score: best?.score ?? null,
    ...(hypotheses.length > 1 ? { predictions: hypotheses } : {}),
    ...(numCut > 0 ? { cutTokens: numCut } : {}),
  });
}
