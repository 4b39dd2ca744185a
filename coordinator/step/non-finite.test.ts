import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeRows } from '../../mixture/plan/planned-rows.ts';
import { describeNonFinite, NonFinitePolicy, NonFiniteSteps, type NotFiniteMessage } from './non-finite.ts';

const said = (step: number, losses: NotFiniteMessage['losses'] = []): NotFiniteMessage => ({
  kind: 'not-finite',
  epoch: 1,
  generation: 1,
  step,
  reason: 'the gradient of w is not finite',
  losses,
});

/** Steps 5 and 6 are open. */
const OPEN = { committed: 4, dealt: 6 };

describe('steps that are not finite', () => {
  test('waits until every rank has answered', () => {
    const steps = new NonFiniteSteps();
    assert.equal(steps.judge(5, 3, [0, 1, 2]).kind, 'none');
    steps.receive(0, said(5), OPEN);
    steps.receive(2, said(5), OPEN);
    assert.equal(steps.judge(5, 3, [0, 1, 2]).kind, 'none');
    assert.equal(steps.judge(6, 3, [0, 1, 2]).kind, 'none');
    steps.receive(1, said(5), OPEN);
    assert.equal(steps.judge(5, 3, [0, 1, 2]).kind, 'all');
    assert.deepEqual([steps.hasSaid(1, 5), steps.hasSaid(1, 6)], [true, false]);
  });

  test('rejects a step that is not open: nothing is kept of it', () => {
    const steps = new NonFiniteSteps();
    for (const step of [1, 4, 7, 1_000])
      assert.throws(() => steps.receive(0, said(step), OPEN), {
        code: 'MESSAGE_INVALID',
        message: /steps are 5 to 6$/u,
      });
    assert.deepEqual(
      [1, 4, 7, 1_000].filter((step) => steps.knows(step)),
      [],
    );
  });

  test('finds that other ranks have applied the step', () => {
    const steps = new NonFiniteSteps();
    steps.receive(2, said(5), OPEN);
    const verdict = steps.judge(5, 3, [2]);
    assert.ok(verdict.kind === 'some');
    assert.deepEqual(verdict.ranks, [2]);
  });
});

describe('NonFinitePolicy', () => {
  for (const policy of ['end', 'skip'] as const)
    test(`${policy} is what it says, each time`, () => {
      const rule = new NonFinitePolicy(policy);
      assert.deepEqual([rule.decide(5), rule.decide(5)], [policy, policy]);
      assert.equal(rule.wasRetried(5), false);
    });

  test('skips end after 10 skipped steps among 100', () => {
    const rule = new NonFinitePolicy('skip');
    const steps = [1, 11, 21, 31, 41, 51, 61, 71, 81, 91];
    assert.deepEqual(
      steps.map((step) => rule.decide(step)),
      steps.map(() => 'skip'),
    );
    assert.equal(rule.decide(100), 'too-many-skipped');
    assert.deepEqual([101, 110].map((step) => rule.decide(step)), ['skip', 'too-many-skipped']); // prettier-ignore
  });

  test('retry tries each step once more', () => {
    const rule = new NonFinitePolicy('retry');
    assert.deepEqual([rule.decide(5), rule.wasRetried(5)], ['retry', true]);
    assert.deepEqual([rule.decide(9), rule.decide(9)], ['retry', 'end']);
  });
});

describe('describeNonFinite', () => {
  const example = (task: number, index: number) => ({ task, index, epoch: 0 });
  const rows = encodeRows([[example(0, 7), example(1, 8)], [example(1, 9)]]);
  const ofLane = (lane: number): Uint8Array => {
    assert.equal(lane, 2);
    return rows;
  };
  const names = ['a', 'b'];

  test('says that all losses are finite', () => {
    assert.equal(
      describeNonFinite(5, [said(5), said(5)], ofLane, names),
      'step 5: the gradient of w is not finite; nothing was applied; all losses are finite',
    );
  });

  test('names the first lane, its losses, and the examples of these tasks', () => {
    const messages = [said(5, [{ lane: 3, task: 0, loss: 'NaN' }]), said(5, [{ lane: 2, task: 1, loss: 'Infinity' }])];
    assert.match(
      describeNonFinite(5, messages, ofLane, names),
      /the first lane with a loss that is not finite is 2: loss of b Infinity; its examples: b 8 and b 9$/u,
    );
  });

  test('names all examples where only the z-loss is not finite, and no more than eight', () => {
    const many = encodeRows([Array.from({ length: 11 }, (_, index) => example(0, index))]);
    const messages = [said(5, [{ lane: 2, task: null, loss: 'NaN' }])];
    assert.match(
      describeNonFinite(5, messages, () => many, names),
      /: z-loss NaN; its examples: a 0, .*a 7 and 3 more$/u,
    );
  });
});
