/**
 * The plan of a generation over a stream of inputs: windows of texts as batches for workers, and their outputs as lines in the order of the inputs.
 *
 * A window is open from its reading until its lines are written. Few are open, so memory is bounded for any stream: another one is read
 * when the workers want more batches, and when the oldest has made room.
 */
import { setImmediate } from 'node:timers/promises';
import type { EvaluationPlan, EvaluationResults } from '../../coordinator/evaluation/run-evaluation.ts';
import { readResult, workOf, type BatchResult, type Output } from '../../evaluation/batch-messages.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { planOutputs, type DecodeBatch, type PlannedSet } from '../../evaluation/plan-evaluation.ts';
import type { Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { abortable } from '../../shared/abort.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { EvaluationWork } from '../../shared/protocol/messages.ts';
import type { InputWindow } from './input-windows.ts';

/** Windows that are open at the same time. */
const MAX_OPEN_WINDOWS = 64;
/** No window is opened while the open ones have so many bytes of texts. */
const MAX_OPEN_BYTES = 64 * 1024 * 1024;
/** Texts that are tokenized before events are looked at again. */
const TEXTS_AT_ONCE = 64;

export interface WindowPlanInit {
  readonly windows: AsyncIterable<InputWindow>;
  /** Inputs of the lines that the output has, oldest first. */
  readonly earlier: AsyncIterable<string>;
  readonly tokenizer: Pick<Tokenizer, 'encode' | 'decode' | 'eosId'>;
  readonly decoding: DecodingSettings;
  /** Most input tokens of a batch. */
  readonly batchTokens: number;
  /** Longer inputs are cut, tokens with EOS. */
  readonly maxInputTokens: number;
  /** Longest inputs of the training; undefined: nothing tells. */
  readonly trainedTokens: number | undefined;
  /** Called before the first batch is dealt. */
  readonly onEngine: (engineFingerprint: string) => Promise<void>;
  /** Writes lines; one call at a time. */
  readonly write: (lines: readonly string[]) => Promise<void>;
  /** Called once if `write` fails; nothing is written afterwards. */
  readonly onWriteFailed: (error: unknown) => void;
  /** Ends the wait for room. */
  readonly signal: AbortSignal;
}

export interface GenerateSummary {
  readonly numGenerated: number;
  /** Lines that the output had already. */
  readonly numEarlier: number;
  /** Inputs that were cut to the longest length. */
  readonly numCut: number;
  /** Inputs, as cut, that are longer than those of the training. */
  readonly numLong: number;
}

interface OpenWindow extends InputWindow {
  readonly planned: PlannedSet;
  /** Tokens of each input that were cut. */
  readonly numCut: readonly number[];
  /** Of its first texts the lines are there. */
  readonly numThere: number;
  /** Of each text, best first. */
  readonly outputs: (readonly Output[])[];
  numBatchesLeft: number;
}

export class WindowPlan implements EvaluationPlan, EvaluationResults {
  readonly #init: WindowPlanInit;
  readonly #windows: AsyncIterator<InputWindow>;
  readonly #earlier: AsyncIterator<string>;
  /** In the order of the inputs. */
  readonly #open: OpenWindow[] = [];
  readonly #batches = new Map<number, { readonly window: OpenWindow; readonly batch: DecodeBatch }>();
  #numBatches = 0;
  /** Batches of the first window, until `begin` names them. */
  #first: readonly number[] = [];
  #numComputed = 0;
  #numGenerated = 0;
  #numEarlier = 0;
  #numCut = 0;
  #numLong = 0;
  #isWriting = false;
  #writing: Promise<void> = Promise.resolve();
  #onRoom: (() => void) | undefined;

  constructor(init: WindowPlanInit) {
    this.#init = init;
    this.#windows = init.windows[Symbol.asyncIterator]();
    this.#earlier = init.earlier[Symbol.asyncIterator]();
  }

  /** Texts whose outputs are computed. */
  get numComputed(): number {
    return this.#numComputed;
  }

  /** Of the lines that are written. */
  get summary(): GenerateSummary {
    const [numGenerated, numEarlier, numCut, numLong] = [this.#numGenerated, this.#numEarlier, this.#numCut, this.#numLong]; // prettier-ignore
    return { numGenerated, numEarlier, numCut, numLong };
  }

  /** Reads the first window, before workers are started for it. @returns whether there is anything to compute @throws as `more` */
  async open(): Promise<boolean> {
    const first = await this.more();
    this.#first = first ?? [];
    return first !== undefined;
  }

  async begin(engineFingerprint: string): Promise<readonly number[]> {
    await this.#init.onEngine(engineFingerprint);
    return this.#first;
  }

  /** The batches of the next window whose lines are not there. @throws what the inputs throw; CONFIG_INVALID if they are not those of the earlier lines */
  async more(): Promise<readonly number[] | undefined> {
    for (;;) {
      await this.#waitForRoom();
      const next = await this.#windows.next();
      if (next.done === true) {
        const more = await this.#earlier.next();
        if (more.done !== true) throw otherInputs(this.#numEarlier, more.value, undefined);
        return undefined;
      }
      const numThere = await this.#countEarlier(next.value);
      if (numThere < next.value.texts.length) return this.#plan(next.value, numThere);
    }
  }

  work(number: number): EvaluationWork {
    const { window, batch } = this.#find(number);
    return workOf(batch, [window.planned], this.#init.decoding);
  }

  read(number: number, result: Parameters<EvaluationPlan['read']>[1]): BatchResult {
    const { window, batch } = this.#find(number);
    return readResult(batch, window.planned.examples, result);
  }

  add(number: number, result: BatchResult): Promise<void> {
    const { window, batch } = this.#find(number);
    assertInvariant(result.kind === 'decode', 'the plan has batches that are decoded');
    batch.examples.forEach((example, at) => (window.outputs[example] = result.outputs[at]!));
    this.#batches.delete(number);
    this.#numComputed += batch.examples.length;
    window.numBatchesLeft--;
    if (!this.#isWriting) this.#writing = this.#writeFinished();
    return Promise.resolve();
  }

  /** Resolves when no line of a finished window is left to write. */
  flushed(): Promise<void> {
    return this.#writing;
  }

  #find(number: number): { readonly window: OpenWindow; readonly batch: DecodeBatch } {
    const found = this.#batches.get(number);
    assertInvariant(found !== undefined, `batch ${number} is open`);
    return found;
  }

  async #waitForRoom(): Promise<void> {
    const isFull = (): boolean => {
      const bytes = this.#open.reduce((sum, window) => sum + window.bytes, 0);
      return this.#open.length >= MAX_OPEN_WINDOWS || bytes >= MAX_OPEN_BYTES;
    };
    while (isFull()) {
      const room = new Promise<void>((resolve) => (this.#onRoom = resolve));
      await abortable(room, this.#init.signal, 'waiting for the output');
    }
  }

  /** Compares the texts with the lines that are there. @returns the texts of the window that have one */
  async #countEarlier({ texts }: InputWindow): Promise<number> {
    for (const [at, text] of texts.entries()) {
      const before = await this.#earlier.next();
      if (before.done === true) return at;
      if (before.value !== text) throw otherInputs(this.#numEarlier, before.value, text);
      this.#numEarlier++;
    }
    return texts.length;
  }

  async #plan(window: InputWindow, numThere: number): Promise<readonly number[]> {
    const { tokenizer, maxInputTokens, decoding, batchTokens } = this.#init;
    const examples: PlannedSet['examples'][number][] = [];
    const numCut: number[] = [];
    for (const [at, text] of window.texts.entries()) {
      if (at % TEXTS_AT_ONCE === 0) await setImmediate(); // messages of workers come in between
      const ids = tokenizer.encode(text);
      const kept = ids.slice(0, maxInputTokens - 1);
      examples.push({ inputIds: [...kept, tokenizer.eosId], targetIds: [] });
      numCut.push(ids.length - kept.length);
    }
    const planned: PlannedSet = { kind: 'supervised', examples, firstExample: window.first };
    const batches = planOutputs(planned, 0, decoding, batchTokens);
    const open = { ...window, planned, numCut, numThere, outputs: [], numBatchesLeft: batches.length };
    this.#open.push(open);
    return batches.map((batch) => {
      this.#batches.set(this.#numBatches, { window: open, batch });
      return this.#numBatches++;
    });
  }

  /** The oldest windows, as long as they are finished. A failure is told and not thrown. */
  async #writeFinished(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let window = this.#open[0]; window?.numBatchesLeft === 0; window = this.#open[0]) {
        await this.#init.write(this.#linesOf(window));
        this.#count(window);
        this.#open.shift();
        this.#onRoom?.();
      }
      this.#isWriting = false;
    } catch (error) {
      this.#init.onWriteFailed(error);
    }
  }

  #linesOf({ first, texts, outputs, numCut, numThere }: OpenWindow): string[] {
    const { tokenizer } = this.#init;
    return texts.slice(numThere).map((text, after) => {
      const at = numThere + after;
      const hypotheses = outputs[at]!.map(({ ids, score }) => ({ text: tokenizer.decode(ids), score }));
      return formatLine(first + at, text, hypotheses, numCut[at]!);
    });
  }

  #count({ texts, numThere, numCut, planned }: OpenWindow): void {
    const { trainedTokens = Infinity } = this.#init;
    this.#numGenerated += texts.length - numThere;
    this.#numCut += numCut.slice(numThere).filter((count) => count > 0).length;
    this.#numLong += planned.examples.slice(numThere).filter(({ inputIds }) => inputIds.length > trainedTokens).length;
  }
}

function otherInputs(numSame: number, before: string, now: string | undefined): TrainerError {
  return new TrainerError(
    'CONFIG_INVALID',
    `the output is of other inputs: its line ${numSame + 1} has ${JSON.stringify(before.slice(0, 60))}, ` +
      `the input ${now === undefined ? 'has ended' : JSON.stringify(now.slice(0, 60))}; name another --output`,
  );
}

/** `prediction` is the best output; `predictions` has all, if there are several. */
function formatLine(
  index: number,
  inputs: string,
  hypotheses: readonly { readonly text: string; readonly score: number }[],
  numCut: number,
): string {
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
