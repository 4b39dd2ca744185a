import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeEnd, outputTail, runProgram, type ProgramInit } from './run-program.ts';

const run = (script: string, change: Partial<ProgramInit> = {}) =>
  runProgram({
    command: ['/bin/sh', '-c', script],
    environment: {},
    deadlineMs: 30_000,
    signal: new AbortController().signal,
    ...change,
  });

test('returns status and output of a program that exits', async () => {
  const outcome = await run('echo out; echo err >&2; exit 3');
  assert.deepEqual(outcome, { status: 3, endedBy: undefined, stopped: undefined, stdout: 'out\n', stderr: 'err\n' });
  assert.equal(describeEnd(outcome), 'status 3');
});

test('names the signal that ended the program', async () => {
  assert.equal(describeEnd(await run('kill -SEGV $$')), 'signal SIGSEGV');
});

test('a missing program is an outcome, not an exception', async () => {
  const outcome = await run('', { command: ['exmix-no-such-program'] });
  assert.equal(outcome.status, undefined);
  assert.equal(describeEnd(outcome), 'exmix-no-such-program does not exist');
});

test('kills the whole process group at the deadline, including children of the program', async () => {
  const outcome = await run('/bin/sleep 600 & /bin/sleep 600', { deadlineMs: 50 });
  assert.equal(describeEnd(outcome), 'not done after 0.05 s');
});

test('the reason of the `stop` signal is reported', async () => {
  const stop = new AbortController();
  const outcome = await run('echo here; /bin/sleep 600', {
    stop: stop.signal,
    onOutput: () => stop.abort('no byte for 1 s'),
  });
  assert.equal(describeEnd(outcome), 'no byte for 1 s');
});

test('fails with ABORTED only after the program has ended', async () => {
  const interrupt = new AbortController();
  let pid = 0;
  const onOutput = (text: string): void => {
    pid = Number(text);
    interrupt.abort('SIGINT');
  };
  await assert.rejects(run('echo $$; exec /bin/sleep 600', { signal: interrupt.signal, onOutput }), {
    code: 'ABORTED',
  });
  assert.throws(() => process.kill(pid, 0), /ESRCH/u);
  await assert.rejects(run('exit 0', { signal: interrupt.signal }), { code: 'ABORTED' });
});

test('keeps the end of a long output, and returns the last lines', async () => {
  const outcome = await run('i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done');
  assert.ok(outcome.stdout.length <= 64 * 1024);
  assert.equal(outputTail(outcome, 2), '  line 19998\n  line 19999');
});
