/** Texts in, texts out: a model of a folder with its tokenizer, on an engine of this process. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import type { Hypothesis } from '../../evaluation/decoding/search.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { planBatches, type ExampleBatch } from '../../evaluation/plan-batches.ts';
import { loadTokenizer, type Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { createEngine, type EngineInit } from '../engine-choice/create-engine.ts';
import type { Engine } from '../engine/engine.ts';
import { readModel } from '../model/read-model.ts';

export interface TextModelInit extends Omit<EngineInit, 'config' | 'zLoss'> {
  /** Of Transformers, or a checkpoint. */
  readonly folder: string;
  /** spiece.model or tokenizer.json; default: that of the folder. */
  readonly tokenizerFile?: string | undefined;
}

export interface GenerateInit {
  readonly settings: DecodingSettings;
  /** Number of the first text in its set: random numbers depend on it. */
  readonly firstExample: number;
  /** Most input tokens of one call of the engine. */
  readonly batchTokens: number;
  /** Longer inputs are cut, tokens with EOS. */
  readonly maxInputTokens: number;
  readonly signal: AbortSignal;
}

export interface GeneratedText {
  readonly text: string;
  readonly score: number;
}

export interface Generated {
  /** Best first. */
  readonly hypotheses: readonly GeneratedText[];
  /** Tokens of the input that were cut; 0: none. */
  readonly numCut: number;
}

const TOKENIZER_FILES = ['spiece.model', 'tokenizer.json'];

export class TextModel {
  readonly tokenizer: Tokenizer;
  readonly config: ModelConfig;
  /** Digest of the parameters: equal models have equal ones. */
  readonly paramDigest: string;
  /** Sentences about the engine: which one, why, and warnings. */
  readonly notes: readonly string[];
  readonly #engine: Engine;

  private constructor(init: Pick<TextModel, 'tokenizer' | 'config' | 'paramDigest' | 'notes'>, engine: Engine) {
    this.tokenizer = init.tokenizer;
    this.config = init.config;
    this.paramDigest = init.paramDigest;
    this.notes = init.notes;
    this.#engine = engine;
  }

  /** @throws as readModel, loadTokenizer and createEngine; CONFIG_INVALID for a vocabulary smaller than the tokenizer */
  static async open({ folder, tokenizerFile, ...engineInit }: TextModelInit): Promise<TextModel> {
    const { config, parameters } = await readModel(folder);
    const tokenizer = await loadTokenizer(tokenizerFile ?? (await findTokenizer(folder)));
    if (tokenizer.vocabSize > config.vocabSize) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `${folder}: the model has ${config.vocabSize} tokens, the tokenizer ${tokenizer.vocabSize}: it is another model's tokenizer`,
      );
    }
    const { engine, reason, notes } = await createEngine({ ...engineInit, config, zLoss: 0 });
    await engine.load(parameters, 'zero');
    return new TextModel(
      { tokenizer, config, paramDigest: parameterDigest(parameters), notes: [reason, ...notes] },
      engine,
    );
  }

  /** One result for each text, in their order. @throws ABORTED between two batches, ENGINE_OUT_OF_MEMORY */
  async generate(texts: readonly string[], init: GenerateInit): Promise<readonly Generated[]> {
    const { maxInputTokens, batchTokens, firstExample, signal } = init;
    const inputs = texts.map((text) => this.#encode(text, maxInputTokens));
    const lengths = inputs.map(({ ids }) => ids.length);
    const results = new Array<Generated>(texts.length);
    for (const batch of planBatches(lengths, batchTokens)) {
      throwIfAborted(signal, 'generating');
      const rows = batch.examples.map((example) => inputs[example]!.ids);
      const found = await this.#decode(batch, rows, init.settings, firstExample);
      batch.examples.forEach((example, row) => {
        const hypotheses = found[row]!.map(({ ids, score }) => ({ text: this.tokenizer.decode(ids), score }));
        results[example] = { hypotheses, numCut: inputs[example]!.numCut };
      });
    }
    return results;
  }

  async dispose(): Promise<void> {
    await this.#engine.dispose();
  }

  #encode(text: string, maxTokens: number): { readonly ids: readonly number[]; readonly numCut: number } {
    const ids = this.tokenizer.encode(text);
    const kept = ids.slice(0, maxTokens - 1);
    return { ids: [...kept, this.tokenizer.eosId], numCut: ids.length - kept.length };
  }

  async #decode(
    { examples, inputsLength }: ExampleBatch,
    rows: readonly (readonly number[])[],
    settings: DecodingSettings,
    firstExample: number,
  ): Promise<readonly (readonly Hypothesis[])[]> {
    const encoderInputIds = new Int32Array(rows.length * inputsLength);
    const encoderSegmentIds = new Int32Array(rows.length * inputsLength);
    rows.forEach((ids, row) => {
      encoderInputIds.set(ids, row * inputsLength);
      encoderSegmentIds.fill(1, row * inputsLength, row * inputsLength + ids.length);
    });
    const decoding = await this.#engine.startDecoding({
      numRows: rows.length,
      inputsLength,
      encoderInputIds,
      encoderSegmentIds,
    });
    try {
      const { vocabSize } = decoding;
      return await decodeBatch(
        decoding,
        examples.map((example) => createSearch(settings, firstExample + example, vocabSize)),
      );
    } finally {
      decoding.dispose();
    }
  }
}

/** The tokenizer of a model's folder. @throws PATH_UNUSABLE */
export async function findTokenizer(folder: string): Promise<string> {
  const files = await readdir(folder);
  const found = TOKENIZER_FILES.find((name) => files.includes(name));
  if (found !== undefined) return join(folder, found);
  throw new TrainerError(
    'PATH_UNUSABLE',
    `expected ${TOKENIZER_FILES.join(' or ')} in ${folder}, found neither; give the tokenizer by --tokenizer`,
  );
}
