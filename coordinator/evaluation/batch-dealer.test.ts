import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BatchDealer } from './batch-dealer.ts';

/** Deals to each worker until it holds enough. */
function dealAll(dealer: BatchDealer<string>, workers: readonly string[]): void {
  for (const worker of workers) while (dealer.next(worker) !== undefined);
}

describe('batches of an evaluation', () => {
  test('a worker holds the batch that it computes and the next one', () => {
    const dealer = new BatchDealer<string>([0, 1, 2, 3, 4]);
    dealer.join('a');
    dealAll(dealer, ['a', 'b']);
    assert.deepEqual([dealer.heldBy('a'), dealer.heldBy('b')], [[0, 1], []]);
    assert.ok(dealer.finish('a', 0));
    assert.equal(dealer.next('a'), 2);
    assert.equal(dealer.next('a'), undefined);
  });

  test('batches of a lost worker come first, and a worker that joins gets some', () => {
    const dealer = new BatchDealer<string>([0, 1, 2, 3, 4]);
    dealer.join('a');
    dealAll(dealer, ['a']);
    dealer.leave('a', 'killed');
    dealer.join('b');
    dealer.join('c');
    dealAll(dealer, ['b', 'c']);
    assert.deepEqual(
      [dealer.heldBy('b'), dealer.heldBy('c')],
      [
        [0, 1],
        [2, 3],
      ],
    );
    assert.equal(dealer.finish('a', 0), false, 'a late result of a lost worker');
  });

  test('a plan that grows: more batches are wanted while the workers could hold more than there are', () => {
    const dealer = new BatchDealer<string>([0]);
    assert.equal(dealer.isShort, false, 'nobody has joined');
    dealer.join('a');
    assert.ok(dealer.isShort);
    dealer.add([2, 1]);
    assert.equal(dealer.isShort, false);
    dealAll(dealer, ['a']);
    assert.deepEqual(dealer.heldBy('a'), [0, 1]);
    dealer.finish('a', 0);
    assert.equal(dealer.isShort, false, 'one is held, one waits');
    dealer.join('b');
    assert.ok(dealer.isShort);
  });

  test('a batch that three workers were lost with is given up, and one that only waited is not', () => {
    const dealer = new BatchDealer<string>([0, 1]);
    for (const worker of ['a', 'b', 'c']) {
      assert.equal(dealer.givenUp, undefined);
      dealer.join(worker);
      dealAll(dealer, [worker]);
      dealer.leave(worker, `${worker} was killed`);
    }
    assert.deepEqual(dealer.givenUp, { batch: 0, reason: 'c was killed' });
  });

  test('a batch that workers failed at three times is given up', () => {
    const dealer = new BatchDealer<string>([7]);
    dealer.join('a');
    for (let attempt = 0; attempt < 3; attempt++) {
      assert.equal(dealer.givenUp, undefined);
      assert.equal(dealer.next('a'), 7);
      dealer.fail('a', 7, 'out of memory');
    }
    assert.deepEqual(dealer.givenUp, { batch: 7, reason: 'out of memory' });
  });

  test('whatever joins, leaves, finishes and fails, each batch has one result, and none is held twice', () => {
    const event = fc.record({ worker: fc.integer({ min: 0, max: 3 }), what: fc.constantFrom('join', 'leave', 'finish', 'fail') }); // prettier-ignore
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), fc.array(event, { maxLength: 40 }), (numBatches, events) => {
        const all = Array.from({ length: numBatches }, (_, batch) => batch);
        const dealer = new BatchDealer<number>(all);
        const workers = [0, 1, 2, 3, 4];
        const finished: number[] = [];
        for (const { worker, what } of events) {
          const [first] = dealer.heldBy(worker);
          if (what === 'join') dealer.join(worker);
          else if (what === 'leave') dealer.leave(worker, 'lost');
          else if (first !== undefined && what === 'fail') dealer.fail(worker, first, 'failed');
          else if (first !== undefined && dealer.finish(worker, first)) finished.push(first);
          for (const other of workers) while (dealer.next(other) !== undefined);
          const held = workers.flatMap((other) => dealer.heldBy(other));
          assert.equal(new Set([...held, ...finished]).size, held.length + finished.length);
        }
        dealer.join(4);
        while (!dealer.isDone) {
          for (const other of workers) while (dealer.next(other) !== undefined);
          for (const other of workers)
            for (const batch of dealer.heldBy(other)) if (dealer.finish(other, batch)) finished.push(batch);
        }
        assert.deepEqual(finished.sort((a, b) => a - b), all); // prettier-ignore
      }),
    );
  });
});
