import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatStatus } from './format-status.ts';

const WORKER = { workerId: 'local-0', host: 'a', pid: 4711, phase: 'training', step: 12, rank: 0 };

test('a live run is facts in lines and tables, without JSON and without empty fields', () => {
  const text = formatStatus({
    name: 'demo',
    phase: 'training',
    waitingFor: '',
    step: 12_345_678,
    generation: 2,
    workers: [
      { ...WORKER, stall: null },
      { ...WORKER, workerId: 'local-1', rank: null, stall: { place: 's3://b/k', forMs: 4000 } },
    ],
    slow: [],
    loss: { first: 4.25, last: 3.123456789 },
    taskLoss: { squad: { first: 4, last: 3.5 }, rte: { first: 2, last: 1 } },
    paramDigest: null,
  });
  assert.equal(
    text,
    `name        demo
phase       training
step        12345678
generation  2
loss        first 4.25, last 3.12346

workers
workerId  host  pid   phase     step  rank  stall
local-0   a     4711  training  12    0     -
local-1   a     4711  training  12    -     place s3://b/k, forMs 4000

taskLoss
name   first  last
squad  4      3.5
rte    2      1
`,
  );
});

test('a run that has ended lists its members', () => {
  assert.equal(
    formatStatus({ phase: 'finished', step: 6, workers: ['local-0', 'local-1'], checkpoint: undefined }),
    'phase    finished\nstep     6\nworkers  local-0, local-1\n',
  );
});

test('no text of any field looks like JSON', () => {
  const deep = { a: { b: { c: [1, { d: 'e' }] } }, list: [[1, 2], [3]], flag: false, nothing: {} };
  assert.doesNotMatch(formatStatus(deep), /[{}[\]"]/u);
});
