import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSearch, decodeBatch, type DecodingSession } from './decode-batch.ts';
import { parseDecodingSettings } from './settings.ts';
import { EOS_TOKEN, type DecodingSettings } from './settings.ts';
import type { Candidates } from './search.ts';

const VOCABULARY = 12;

/** A model whose logits are a function of example and tokens alone. */
class MadeUpModel implements DecodingSession {
  readonly vocabSize = VOCABULARY;
  readonly numRowsByCall: number[] = [];
  #hypotheses: { example: number; tokens: number[] }[];

  constructor(examples: readonly number[]) {
    this.#hypotheses = examples.map((example) => ({ example, tokens: [] }));
  }

  advance(parents: readonly number[], tokens: readonly number[], numCandidates: number): Promise<Candidates[]> {
    this.numRowsByCall.push(parents.length);
    this.#hypotheses = parents.map((parent, at) => {
      const before = this.#hypotheses[parent]!;
      return { example: before.example, tokens: [...before.tokens, tokens[at]!] };
    });
    return Promise.resolve(this.#hypotheses.map((hypothesis) => candidatesOf(hypothesis, numCandidates)));
  }
}

function candidatesOf({ example, tokens }: { example: number; tokens: number[] }, numCandidates: number): Candidates {
  const logits = Array.from({ length: VOCABULARY }, (_, id) => 3 * Math.sin(7 * id + 13 * example + tokens.reduce((sum, token, at) => sum + (at + 2) * token, 0))); // prettier-ignore
  const logNormalizer = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
  const ids = logits.map((_, id) => id).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = ids.slice(0, numCandidates);
  return {
    ids: best,
    logProbabilities: best.map((id) => logits[id]! - logNormalizer),
    logNormalizer,
    ownLogProbabilities: [EOS_TOKEN, ...tokens].map((id) => logits[id]! - logNormalizer),
  };
}

async function decode(
  settings: DecodingSettings,
  examples: readonly number[],
): Promise<{ outputs: unknown[]; model: MadeUpModel }> {
  const model = new MadeUpModel(examples);
  const searches = examples.map((example) => createSearch(settings, example, VOCABULARY));
  return { outputs: [...(await decodeBatch(model, searches))], model };
}

const METHODS: readonly DecodingSettings[] = [
  parseDecodingSettings({ method: 'greedy', maxNewTokens: 20, noRepeatNgramSize: 2, repetitionPenalty: 1.3 }),
  parseDecodingSettings({ method: 'beam', maxNewTokens: 20, numBeams: 3, numReturnSequences: 3, minNewTokens: 4 }),
  parseDecodingSettings({ method: 'beam-t5x', maxNewTokens: 20, numBeams: 3 }),
  parseDecodingSettings({ method: 'sample', maxNewTokens: 20, topK: 5, topP: 0.9, seed: 7 }),
  parseDecodingSettings({ method: 'sample', maxNewTokens: 20, topK: 0, temperature: 2 }),
];

for (const settings of METHODS) {
  test(`${settings.method}: the output of an example is the same alone and in any batch`, async () => {
    const together = await decode(settings, [0, 1, 2, 3, 4]);
    const reversed = await decode(settings, [4, 3, 2, 1, 0]);
    for (let example = 0; example < 5; example++) {
      const alone = await decode(settings, [example]);
      assert.deepEqual(together.outputs[example], alone.outputs[0]);
      assert.deepEqual(reversed.outputs[4 - example], alone.outputs[0]);
    }
  });
}

test('examples that have ended leave the batch', async () => {
  const { model } = await decode(METHODS[0]!, [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(model.numRowsByCall[0], 8);
  assert.ok(model.numRowsByCall.at(-1)! < 8, String(model.numRowsByCall));
  assert.deepEqual(
    model.numRowsByCall,
    [...model.numRowsByCall].sort((a, b) => b - a),
  );
});

test('sampling with another seed or example gives another text', async () => {
  const sample = (seed: number) =>
    parseDecodingSettings({ method: 'sample', maxNewTokens: 20, topK: 0, seed, minNewTokens: 20 });
  const text = async (seed: number, example: number): Promise<string> => {
    const model = new MadeUpModel([0]);
    return JSON.stringify(await decodeBatch(model, [createSearch(sample(seed), example, VOCABULARY)]));
  };
  assert.equal(await text(1, 0), await text(1, 0));
  assert.notEqual(await text(1, 0), await text(2, 0));
  assert.notEqual(await text(1, 0), await text(1, 1));
});

test('settings that contradict each other are refused, all at once', () => {
  assert.throws(
    () =>
      parseDecodingSettings({ method: 'beam', maxNewTokens: 4, minNewTokens: 5, numBeams: 2, numReturnSequences: 3 }),
    {
      code: 'CONFIG_INVALID',
      message: 'decoding: minNewTokens 5 is above maxNewTokens 4; numReturnSequences 3 is above numBeams 2',
    },
  );
  assert.throws(() => parseDecodingSettings({ method: 'greedy', maxNewTokens: 0 }), {
    code: 'CONFIG_INVALID',
    message: /maxNewTokens/u,
  });
});
