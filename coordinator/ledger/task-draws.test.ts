import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createInversePermutation } from '../../mixture/plan/permutation.ts';
import { Planner } from '../../mixture/plan/planner.ts';
import { hashName } from '../../shared/random.ts';
import { TaskDraws } from './task-draws.ts';

const SEED = 5;
const TASKS = [
  { name: 'small', numExamples: 3 },
  { name: 'medium', numExamples: 300 },
  { name: 'large', numExamples: 2 ** 31 - 1 },
];

describe('the draws of a task', () => {
  test('the draw of each planned example is its number in the order of its task', () => {
    const planner = new Planner(
      { seed: SEED, inputsLimit: 8, targetsLimit: 8, windowDraws: 64, shares: [0.25, 0.25, 0.5] },
      TASKS.map((task) => ({ ...task, inputsLength: (i) => 1 + (i % 5), targetsLength: () => 2 })),
    );
    const draws = TASKS.map((task) => new TaskDraws(SEED, task));
    const drawn = TASKS.map((): number[] => []);
    for (const { task, index, epoch } of planner.nextRows(480).flat()) {
      const { name, numExamples } = TASKS[task]!;
      const draw = draws[task]!.drawOf(index, epoch)!;
      const names = [SEED, hashName('example-order'), hashName(name), epoch];
      assert.equal(draw, epoch * numExamples + createInversePermutation(names, numExamples)(index));
      assert.deepEqual(draws[task]!.exampleOf(draw), { index, epoch });
      drawn[task]!.push(draw);
    }
    for (const numbers of drawn) {
      const { length } = numbers;
      assert.ok(length > 30);
      assert.equal(new Set(numbers).size, length);
      assert.ok(Math.max(...numbers) < length + 64, 'the draws are the first ones, except in the window under way');
    }
  });

  test('an example has one draw in each epoch, and none where the task does not have it', () => {
    const draws = new TaskDraws(SEED, TASKS[1]!);
    assert.equal(draws.drawOf(17, 4), draws.drawOf(17, 4));
    assert.equal(Math.floor(draws.drawOf(17, 4)! / 300), 4);
    assert.notEqual(draws.drawOf(17, 4), draws.drawOf(17, 5));
    assert.equal(draws.drawOf(300, 4), undefined);
  });
});
