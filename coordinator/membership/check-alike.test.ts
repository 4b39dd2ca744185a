import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { checkAlike, chooseEngine, describeOtherEngine, type EngineVote } from './check-alike.ts';
import { ScriptedRoster } from '../testing/scripted-handle.fixture.ts';
import { MIXTURE_HASH } from '../testing/small-run.fixture.ts';

describe('workers of one run', () => {
  test('must have the same mixture and engine; one that differs is named', () => {
    const room = new ScriptedRoster(new ManualClock());
    room.ready('a');
    const members = () => room.roster.ready;
    checkAlike(members(), MIXTURE_HASH);
    assert.throws(() => checkAlike(members(), 'ef'.repeat(32)), {
      code: 'MIXTURE_MISMATCH',
      message: /worker a/u,
    });
    room.ready('b', null, { engineFingerprint: 'other' });
    assert.throws(() => checkAlike(members(), MIXTURE_HASH), {
      code: 'STATE_DIVERGED',
      message: /worker b .*expected engine scripted 1, got other/u,
    });
  });
});

describe('the engine of a generation', () => {
  const vote = (workerId: string, engineFingerprint: string, isHolder = false): EngineVote => ({
    workerId,
    engineFingerprint,
    isHolder,
  });
  for (const [what, votes, before, engine] of [
    ['that of the most workers', [vote('a', 'x'), vote('b', 'y'), vote('c', 'y')], undefined, 'y'],
    [
      'that of the most workers, also where the run had another',
      [vote('a', 'x'), vote('b', 'y'), vote('c', 'y')],
      'x',
      'y',
    ],
    ['among equals the one of the run before', [vote('a', 'x'), vote('b', 'y')], 'y', 'y'],
    ['among equals that of the lowest id', [vote('b', 'y'), vote('a', 'x')], undefined, 'x'],
    ['that of the holders of the state', [vote('a', 'x'), vote('b', 'x'), vote('c', 'y', true)], undefined, 'y'],
    ['that of the most holders', [vote('a', 'x', true), vote('b', 'y', true), vote('c', 'y', true)], undefined, 'y'],
    ['none without workers', [], 'x', undefined],
  ] as const)
    test(`is ${what}`, () => {
      assert.equal(chooseEngine(votes, before), engine);
    });

  test('is told from another one by the parts that differ', () => {
    assert.equal(
      describeOtherEngine('tfjs 4.22; wasm; V8 11.3', 'tfjs 4.22; wasm; V8 12.4'),
      'other engine than the run: V8 11.3 in place of V8 12.4',
    );
    assert.equal(describeOtherEngine('tfjs; cpu', 'tfjs'), 'other engine than the run: cpu in place of nothing');
  });
});
