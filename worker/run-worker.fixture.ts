/** A worker that runs until its test is over. */
import type { TestContext } from 'node:test';
import { toTrainerError } from '../shared/errors.ts';
import type { Worker } from './worker.ts';

/** @returns `ended`: how `run` ended, the error's code or "finished"; `stop` ends it at once, `drain` gently */
export function runWorker(
  t: TestContext,
  worker: Worker,
): {
  ended: Promise<string>;
  stop: AbortController;
  drain: AbortController;
} {
  const stop = new AbortController();
  const drain = new AbortController();
  const ended = worker.run({ gentle: drain.signal, atOnce: stop.signal }).then(
    () => 'finished',
    (error: unknown) => toTrainerError(error).code,
  );
  t.after(async () => {
    stop.abort('the test is over');
    await ended;
  });
  return { ended, stop, drain };
}
