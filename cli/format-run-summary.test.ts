import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RunSummaryView } from '../coordinator/run-summary.ts';
import { formatRunSummary } from './format-run-summary.ts';

const command = (words: readonly string[]): string => ['exmix', 'train', ...words].join(' ');

const SUMMARY: RunSummaryView = {
  step: 40,
  savedStep: 40,
  stepsTrained: 10,
  stepsSkipped: 0,
  loss: { first: 8.7812, last: 5.5 },
  taskLoss: { wn_define: { first: 9, last: 6 } },
  tokensPerSecond: 1234,
  worldSize: 2,
  predicted: { stepMs: 400, workerBytes: 2 ** 30 },
  measured: { stepMs: 500, workerBytes: 2 ** 29 },
  paramDigest: 'abc',
  checkpoint: '/runs/x/checkpoints/step-40',
};

describe('run summary', () => {
  test('prints steps, total and per-task losses, speed, workers, digest, checkpoint and the command to resume', () => {
    const text = formatRunSummary(SUMMARY, { runFolder: '/runs/x', steps: 40, interrupted: undefined, command });
    for (const part of [
      'Run finished',
      '40 of 40 (10 in this session)',
      '8.781 →   5.500',
      '1234 tokens/s (median), 2 workers',
      'step        500 ms compute and update, 1.25 times the prediction of 400 ms',
      'memory      512 MiB a worker, 0.50 times the prediction of 1.0 GiB',
      'parameters  abc',
      '/runs/x/checkpoints/step-40',
      'exmix train --resume /runs/x --steps 50',
    ])
      assert.ok(text.includes(part), `${part} in ${text}`);
    assert.match(text, /wn_define\s+9\.000 →\s+6\.000/u);
  });

  test('the newest validation is a table by task, with the best one', () => {
    const figures = { gem_bleu: { bleu: 30, precision1: 70 }, accuracy: { accuracy: null } };
    const newest = { step: 40, split: 'validation', metric: 'mean', score: 30, tasks: { e2e: { numExamples: 8, loss: 1.25, metrics: figures }, c4: { numExamples: 4, loss: null, metrics: {} } } }; // prettier-ignore
    const validation = { newest, best: { ...newest, step: 20, score: 31.5 } };
    const text = formatRunSummary({ ...SUMMARY, validation }, { runFolder: '/runs/x', steps: 40, interrupted: undefined, command }); // prettier-ignore
    assert.deepEqual(text.trimEnd().split('\n').slice(-5), [
      '  validation after step 40: mean 30.00; best: step 20, mean 31.50',
      '  task  examples  loss   metric    score',
      '  e2e   8         1.250  gem_bleu  bleu 30.00',
      '                         accuracy  -',
      '  c4    4         -',
    ]);
  });

  test('a run that ended early says why, and goes on with more patience', () => {
    const stoppedEarly = { step: 40, bestStep: 20, metric: 'mean', patience: 2, reason: 'no better mean' };
    const facts = { runFolder: '/runs/x', steps: 100, interrupted: undefined, command };
    const text = formatRunSummary({ ...SUMMARY, stoppedEarly }, facts);
    assert.ok(
      text.includes('Run finished\n  steps       40 of 100 (10 in this session)\n  stopped     no better mean\n'),
      text,
    );
    assert.ok(text.includes('exmix train --resume /runs/x --set evaluation.stopWhen.patience=3\n'), text);
  });

  test('an interrupted run names the signal and is resumed up to its own last step', () => {
    const text = formatRunSummary(
      { ...SUMMARY, step: 20, savedStep: 20, worldSize: 1 },
      { runFolder: '/runs/x', steps: 40, interrupted: 'SIGINT', command },
    );
    assert.ok(text.includes('Run interrupted by SIGINT; everything is saved'));
    assert.ok(text.includes('--resume /runs/x --steps 40'));
    assert.ok(text.includes(', 1 worker\n'));
  });

  test('a run without a committed step is printed without losses', () => {
    const summary = {
      step: 0,
      savedStep: 0,
      stepsTrained: 0,
      stepsSkipped: 0,
      taskLoss: {},
      tokensPerSecond: 0,
      worldSize: 0,
      paramDigest: null,
    };
    const text = formatRunSummary(summary, { runFolder: '/runs/x', steps: 40, interrupted: 'SIGTERM', command });
    assert.ok(!text.includes('loss ') && !text.includes('prediction'), text);
    assert.ok(text.includes('not saved') && text.includes('checkpoint  none'));
    assert.ok(text.includes('no step was trained') && !text.includes('everything'));
  });

  test('skipped steps are counted', () => {
    const facts = { runFolder: '/runs/x', steps: 40, interrupted: undefined, command };
    assert.match(formatRunSummary({ ...SUMMARY, stepsSkipped: 3 }, facts), /skipped +3 steps/u);
    assert.doesNotMatch(formatRunSummary(SUMMARY, facts), /skipped/u);
  });

  test('committed steps that are in no checkpoint are never said to be saved', () => {
    for (const [savedStep, newest] of [
      [0, 'there is no checkpoint'],
      [16, 'the newest checkpoint has step 16'],
    ] as const) {
      const facts = { runFolder: '/runs/x', steps: 40, interrupted: 'SIGTERM', command };
      const text = formatRunSummary({ ...SUMMARY, step: 20, savedStep }, facts);
      assert.ok(text.includes(`step 20 is NOT saved: ${newest}`), text);
      assert.ok(!text.includes('everything is saved'), text);
    }
  });
});
