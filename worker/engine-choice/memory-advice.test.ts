import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { modelConfigSchema } from '../../shared/model-config.ts';
import type { Batch, Engine, StepOutput } from '../engine/engine.ts';
import { withMemoryAdvice } from './memory-advice.ts';

const CONFIG = modelConfigSchema.parse({});
const BATCH = { numRows: 8, inputsLength: 512, targetsLength: 114 } as Batch;

/** @param fails what `step` fails with */
function wrapped(fails: Error | undefined, onAsked: () => void = () => undefined): Engine {
  const output: StepOutput = { crossEntropy: Float32Array.of(1), zLoss: Float32Array.of(2) };
  const step = (): Promise<StepOutput> => (fails === undefined ? Promise.resolve(output) : Promise.reject(fails));
  const engine = { description: { name: 'fake' }, step } as unknown as Engine;
  const availableBytes = (): Promise<number> => {
    onAsked();
    return Promise.resolve(2 * 2 ** 30);
  };
  return withMemoryAdvice(engine, { config: CONFIG, optimizer: 'adafactor', retention: 'recorded', availableBytes });
}

describe('advice when memory ran out', () => {
  test('the error names a microbatch that fits, and keeps the library’s message', async () => {
    const cause = new TrainerError('ENGINE_OUT_OF_MEMORY', 'OOM when allocating tensor with shape[32,12,512,512]');
    await assert.rejects(
      wrapped(cause).step(BATCH, () => undefined),
      (error: TrainerError) => {
        assert.equal(error.code, 'ENGINE_OUT_OF_MEMORY');
        assert.match(
          error.message,
          /shape\[32,12,512,512\]; the step needs about .* for 8 rows\), 2\.0 GiB can be had/u,
        );
        assert.match(error.message, /training\.microbatchRows=[124] should fit/u);
        assert.equal(error.cause, cause);
        return true;
      },
    );
  });

  test('other failures and results pass unchanged, and the memory is not read', async () => {
    const asked = () => assert.fail('nobody ran out of memory');
    const leak = new TrainerError('TENSOR_LEAK', 'x');
    await assert.rejects(
      wrapped(leak, asked).step(BATCH, () => undefined),
      (error) => error === leak,
    );
    const { zLoss } = await wrapped(undefined, asked).step(BATCH, () => undefined);
    assert.deepEqual([...zLoss], [2]);
  });
});
