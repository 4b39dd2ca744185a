import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TrainerError } from '../errors.ts';
import { Thread } from './thread.ts';
import type { EchoIn, EchoOut } from './thread.fixture.ts';

const module = 'shared/thread/thread.fixture.ts';

describe('thread', () => {
  test('a TypeScript module runs in a thread and answers with typed messages', async () => {
    const shared = new Int32Array(new SharedArrayBuffer(4));
    const answer = await new Promise<EchoOut>((onMessage, onFailed) => {
      new Thread<EchoIn, EchoOut>({ module, data: shared, onMessage, onFailed }).post({ kind: 'add', value: 5 });
    });
    assert.deepEqual(answer, { kind: 'sum', value: 5 });
    assert.equal(shared[0], 5);
  });

  test('a thread that throws reports a TrainerError and ends', async () => {
    let thread!: Thread<EchoIn, EchoOut>;
    const error = await new Promise<TrainerError>((onFailed) => {
      thread = new Thread<EchoIn, EchoOut>({
        module,
        data: new Int32Array(new SharedArrayBuffer(4)),
        onMessage: () => undefined,
        onFailed,
      });
      thread.post({ kind: 'throw' });
    });
    assert.match(error.message, /as asked/u);
    await thread.exited;
  });

  test('a thread that is stopped does not report a failure', async () => {
    const failures: TrainerError[] = [];
    const thread = new Thread<EchoIn, EchoOut>({
      module,
      data: new Int32Array(new SharedArrayBuffer(4)),
      onMessage: () => undefined,
      onFailed: (error) => failures.push(error),
    });
    await thread.stop();
    await thread.exited;
    assert.deepEqual(failures, []);
  });
});
