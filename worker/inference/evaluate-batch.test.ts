import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { readResult, workOf } from '../../evaluation/batch-messages.ts';
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { planEvaluation, type PlannedSet } from '../../evaluation/plan-evaluation.ts';
import { fromHuggingFace } from '../../shared/model-config.ts';
import { encodeTokenRows } from '../../shared/protocol/token-rows.ts';
import { RandomStream } from '../../shared/random.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import { createTfjsEngine } from '../engine/tfjs-engine.ts';
import { evaluateBatch } from './evaluate-batch.ts';

const { tensors } = await readSafetensors('golden/t5-tiny-v1_1/model.safetensors');
const config = fromHuggingFace(JSON.parse(await readFile('golden/t5-tiny-v1_1/config.json', 'utf8')), true);
const engine = await createTfjsEngine({ backend: 'wasm', config, zLoss: 1e-4 });
await engine.load(new Map([...tensors].map(([name, tensor]) => [name, asFloat32(tensor)])), 'zero');

const random = new RandomStream([3]);
const tokens = (length: number): number[] => [
  ...Array.from({ length }, () => 2 + random.nextBelow(config.vocabSize - 2)),
  1,
];
const set: PlannedSet = {
  kind: 'supervised',
  examples: [3, 20, 7, 18, 5, 40, 1].map((length, at) => ({ inputIds: tokens(length), targetIds: tokens(2 + 3 * at) })),
};
const decoding = parseDecodingSettings({ method: 'beam', numBeams: 3, numReturnSequences: 2, maxNewTokens: 9 });
const signal = new AbortController().signal;

async function evaluate(batchTokens: number) {
  const batches = planEvaluation([set], { batchTokens, decoding });
  let progress = 0;
  const results = [];
  for (const batch of batches) {
    const result = await evaluateBatch(engine, { work: workOf(batch, [set], decoding), signal, onProgress: () => progress++ }); // prettier-ignore
    results.push({ batch, result: readResult(batch, set.examples, result) });
  }
  return { results, progress };
}

/** Loss and hits of one example by the engine's own forward pass. */
async function scoreAlone({ inputIds, targetIds }: PlannedSet['examples'][number]) {
  const ones = (length: number): Int32Array => new Int32Array(length).fill(1);
  const { logits } = await engine.forward({
    numRows: 1,
    inputsLength: inputIds.length,
    targetsLength: targetIds.length,
    encoderInputIds: Int32Array.from(inputIds),
    encoderSegmentIds: ones(inputIds.length),
    decoderInputIds: Int32Array.from([0, ...targetIds.slice(0, -1)]),
    decoderSegmentIds: ones(targetIds.length),
    labels: Int32Array.from(targetIds),
  });
  let [loss, numRight] = [0, 0];
  targetIds.forEach((target, at) => {
    const row = logits.subarray(at * config.vocabSize, (at + 1) * config.vocabSize);
    const most = Math.max(...row);
    loss += most + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0)) - row[target]!;
    if (row.indexOf(most) === target) numRight++;
  });
  return { loss, numRight };
}

describe('a batch of an evaluation', () => {
  test('scores are those of each example alone, without the z-loss and without padding', async () => {
    // A target that the model would say makes hits.
    const best = await decodeAlone(0);
    const hit = { inputIds: set.examples[0]!.inputIds, targetIds: best };
    const alone = await scoreAlone(hit);
    assert.ok(alone.numRight > 0);
    const sets: PlannedSet[] = [{ kind: 'denoising', examples: [...set.examples, hit] }];
    for (const batch of planEvaluation(sets, { batchTokens: 400 })) {
      const result = await evaluateBatch(engine, { work: workOf(batch, sets, undefined), signal, onProgress: () => undefined }); // prettier-ignore
      assert.ok(result.kind === 'score');
      for (const [at, index] of batch.examples.entries()) {
        const { loss, numRight } = await scoreAlone(sets[0]!.examples[index]!);
        assert.ok(Math.abs(result.losses[at]! - loss) < 1e-3 * Math.max(1, loss), `${result.losses[at]} ${loss}`);
        assert.equal(result.numRight[at], numRight);
      }
    }
  });

  test('outputs are those of the decoder, best first, and every token is progress', async () => {
    const { results, progress } = await evaluate(100);
    assert.ok(progress > 9);
    const seen = new Set<number>();
    for (const { batch, result } of results) {
      if (result.kind !== 'decode') continue;
      for (const [at, example] of batch.examples.entries()) {
        assert.equal(result.outputs[at]!.length, 2);
        assert.deepEqual(result.outputs[at]![0]!.ids, await decodeAlone(example));
        seen.add(example);
      }
    }
    assert.equal(seen.size, set.examples.length);
  });

  test('an abort ends a batch between two tokens', async () => {
    const stop = new AbortController();
    const [batch] = planEvaluation([set], { batchTokens: 100, decoding }).filter(({ kind }) => kind === 'decode');
    const onProgress = (): void => stop.abort(new Error('the generation ends'));
    const work = workOf(batch!, [set], decoding);
    const before = engine.memory();
    await assert.rejects(evaluateBatch(engine, { work, signal: stop.signal, onProgress }), { code: 'ABORTED' });
    assert.deepEqual(engine.memory(), before);
  });

  test('rows that do not fit the shape are refused', async () => {
    const inputs = encodeTokenRows([[5, 6, 1]]);
    const targets = encodeTokenRows([[5, 1]]);
    const shape = { inputsLength: 16, targetsLength: 16, numRows: 1 };
    for (const more of [{ inputsLength: 2 }, { inputsLength: 2 ** 40 }, { inputs: encodeTokenRows([[5], [6]]) }])
      await assert.rejects(
        evaluateBatch(engine, { work: { kind: 'score', inputs, targets, ...shape, ...more }, signal, onProgress: () => undefined }), // prettier-ignore
        { code: 'MESSAGE_INVALID' },
      );
  });
});

/** The best output of an example in a batch of its own, padded as the plan pads it. */
async function decodeAlone(example: number): Promise<readonly number[]> {
  const { inputIds } = set.examples[example]!;
  const inputsLength = 16 * Math.ceil(inputIds.length / 16);
  const encoderInputIds = new Int32Array(inputsLength);
  encoderInputIds.set(inputIds);
  const encoderSegmentIds = encoderInputIds.map((id) => Number(id > 0));
  const session = await engine.startDecoding({ numRows: 1, inputsLength, encoderInputIds, encoderSegmentIds });
  const [found] = await decodeBatch(session, [createSearch(decoding, example, config.vocabSize)]);
  session.dispose();
  return found![0]!.ids;
}
