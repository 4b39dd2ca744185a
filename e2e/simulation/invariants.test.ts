import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { JournalRecord } from '../../coordinator/journal/journal-records.ts';
import { findViolations, type RunEvidence } from './invariants.ts';
import type { ReferenceRun } from './reference-run.ts';

const hex = (step: number): string => `${step}`.repeat(64);
const lanesOf = (step: number) => [[[{ task: 0, index: step, epoch: 0 }]], [[{ task: 1, index: step, epoch: 0 }]]];
const REFERENCE: ReferenceRun = {
  startDigest: hex(0),
  steps: [1, 2, 3].map((step) => ({ step, lanes: lanesOf(step), gradDigest: 100 + step, paramDigest: hex(step) })),
  initial: new Map(),
};

const opened = (epoch: number, step: number): JournalRecord => ({
  kind: 'run-opened',
  epoch,
  configHash: 'c0',
  seed: 1,
  mixtureHash: hex(7),
  step,
});
const formed = (epoch: number, generation: number, firstStep: number): JournalRecord => ({
  kind: 'generation-formed',
  epoch,
  generation,
  firstStep,
  members: ['a'],
  lanes: [[0, 2]],
});
const committed = (epoch: number, generation: number, step: number, gradDigest = 100 + step): JournalRecord => ({
  kind: 'step-committed',
  epoch,
  generation,
  step,
  cursor: {},
  gradDigest,
  loss: 1,
});
const published = (step: number): JournalRecord => ({
  kind: 'checkpoint-published',
  step,
  path: `checkpoints/step-${step}`,
  paramDigest: hex(step),
});
const recorded = (step: number) => ({ step, gradDigest: 100 + step, lanes: lanesOf(step) });

/** Two epochs: killed after step 2, resumed from the checkpoint of step 1, repaired once, finished. */
const SOUND: RunEvidence & { readonly records: JournalRecord[] } = {
  records: [
    opened(1, 0),
    formed(1, 1, 1),
    committed(1, 1, 1),
    published(1),
    committed(1, 1, 2),
    opened(2, 1),
    formed(2, 1, 2),
    committed(2, 1, 2),
    formed(2, 2, 3),
    committed(2, 2, 3),
    published(3),
    { kind: 'run-finished', epoch: 2, step: 3 },
  ],
  sessions: [
    { epoch: 1, steps: [recorded(1), recorded(2)] },
    { epoch: 2, steps: [recorded(2), recorded(3)] },
  ],
  checkpoints: [1, 3].map((step) => ({ step, paramDigest: hex(step) })),
  finals: [{ workerId: 'a', paramDigest: hex(3) }],
  finishedAt: 3,
};

const replaced = (at: number, ...records: JournalRecord[]): RunEvidence => ({
  ...SOUND,
  records: SOUND.records.toSpliced(at, 1, ...records),
});

describe('invariants', () => {
  test('hold for a run that was killed, rewound and repaired', () => {
    assert.deepEqual(findViolations(SOUND, REFERENCE), []);
  });

  test('hold for a run that ended between the write to the ledger and the commit', () => {
    const { finishedAt, ...rest } = SOUND;
    const short = {
      ...rest,
      records: SOUND.records.slice(0, 9),
      finals: [],
      checkpoints: SOUND.checkpoints.slice(0, 1),
    };
    assert.equal(finishedAt, 3);
    assert.deepEqual(findViolations(short, REFERENCE), []);
  });

  const broken: readonly (readonly [string, RunEvidence, RegExp])[] = [
    ['a gap between commits', replaced(4, committed(1, 1, 3)), /journal line 5: step 3 committed after step 1/u],
    ['a commit of an ended epoch', replaced(7, committed(1, 1, 2)), /epoch 1 while epoch 2 is open/u],
    ['an epoch that does not grow', replaced(5, opened(1, 1)), /epoch 1 opened after epoch 1/u],
    [
      'a generation that does not grow',
      replaced(8, formed(2, 1, 3)),
      /generation 1 of epoch 2 was formed after generation 1/u,
    ],
    [
      'a commit of a generation that was never formed',
      replaced(9, committed(2, 3, 3)),
      /by generation 3 in epoch 2, which was not formed/u,
    ],
    ['another gradient', replaced(4, committed(1, 1, 2, 5)), /step 2, epoch 1: expected gradient 102, committed 5/u],
    [
      'a redone step with another gradient',
      replaced(7, committed(2, 1, 2, 5)),
      /step 2, epoch 2: expected gradient 102/u,
    ],
    [
      'a committed step that is missing in the ledger',
      { ...SOUND, sessions: [SOUND.sessions[0]!, { epoch: 2, steps: [recorded(2)] }] },
      /epoch 2: committed steps 2,3, the ledger has 2$/u,
    ],
    [
      'a step in the ledger that was never committed',
      { ...SOUND, sessions: [{ epoch: 1, steps: [1, 2, 3].map(recorded) }, SOUND.sessions[1]!] },
      /epoch 1: the ledger has steps 3, which were not committed/u,
    ],
    [
      'rows that are not those of the plan',
      {
        ...SOUND,
        sessions: [SOUND.sessions[0]!, { epoch: 2, steps: [recorded(2), { ...recorded(3), lanes: lanesOf(2) }] }],
      },
      /step 3: other rows.*\n.*example 2 of task 0 in pass 0 was trained on in step 2 and in step 3/u,
    ],
    [
      'a checkpoint of other parameters',
      { ...SOUND, checkpoints: [{ step: 1, paramDigest: hex(2) }, SOUND.checkpoints[1]!] },
      /the checkpoint of step 1: expected parameters 1+, found 2+$/u,
    ],
    [
      'a worker with other parameters',
      { ...SOUND, finals: [{ workerId: 'b', paramDigest: 'f'.repeat(64) }] },
      /the state of b: f+ is of no step/u,
    ],
    ['an end before the last step', { ...SOUND, finishedAt: 4 }, /finished after step 3 of 4\n.*without a checkpoint/u],
    ['an end without its checkpoint', { ...SOUND, checkpoints: [] }, /step 3 was published and is missing\n/u],
  ];
  for (const [name, evidence, message] of broken)
    test(`find ${name}`, () => {
      assert.match(findViolations(evidence, REFERENCE).join('\n'), message);
    });
});
