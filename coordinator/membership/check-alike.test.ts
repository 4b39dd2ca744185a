import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { checkAlike } from './check-alike.ts';
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
