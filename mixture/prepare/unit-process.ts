/**
 * A process that makes units, one at a time, as its parent orders. It ends when the parent stops it or is gone; signals that a
 * terminal or a job scheduler sends to all processes are left to the parent, which calls the work off in order.
 */
import { assertInvariant, toErrorRecord, toTrainerError } from '../../shared/errors.ts';
import { systemClock } from '../../shared/clock.ts';
import { reportRetries } from '../sources/source-access.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { ensureUnit, type UnitContext, type UnitOrder } from './ensure-unit.ts';
import { listPreparables } from './preparable-task.ts';
import type { FromUnitProcess, ToUnitProcess, UnitSetting } from './unit-messages.ts';

/** Pause between two messages of progress. */
const PROGRESS_INTERVAL_MS = 500;

const interrupt = new AbortController();
let context: Promise<UnitContext> | undefined;

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(1));
process.on('message', (message: ToUnitProcess) => {
  switch (message.kind) {
    case 'begin':
      context = createContext(message.setting);
      context.catch(() => undefined); // told with the first unit
      break;
    case 'unit':
      void make(message.order);
      break;
    case 'stop':
      interrupt.abort('stopped');
      if (!isBusy) process.disconnect();
      break;
  }
});

let isBusy = false;

async function make(order: UnitOrder): Promise<void> {
  isBusy = true;
  let saidAt = systemClock.monotonicMs();
  try {
    assertInvariant(context !== undefined, 'a unit is ordered after the process has begun');
    const ensured = await ensureUnit(order, await context, {
      signal: interrupt.signal,
      onProgress: (progress) => {
        const now = systemClock.monotonicMs();
        if (now - saidAt < PROGRESS_INTERVAL_MS) return;
        saidAt = now;
        say({ kind: 'progress', progress });
      },
    });
    say({ kind: 'done', ensured });
  } catch (error) {
    const record = toErrorRecord(error);
    const cause = toTrainerError(error).cause;
    // The stack of a bug does not travel: it is printed here, and the parent shows what its child printed.
    if (record.code === 'INTERNAL' && cause instanceof Error) process.stderr.write(`${cause.stack ?? ''}\n`);
    say({ kind: 'failed', error: record });
  }
  isBusy = false;
  if (interrupt.signal.aborted) process.disconnect();
}

function say(message: FromUnitProcess): void {
  // A parent that is gone is noticed by 'disconnect'.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}

async function createContext({ mixturePath, mixtureOptions, access, ...setting }: UnitSetting): Promise<UnitContext> {
  const mixture = loadMixture(mixturePath, mixtureOptions);
  const preparables = new Map(listPreparables(mixture, setting.featureLengths).map((of) => [of.task.name, of]));
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  return {
    ...setting,
    access: reportRetries(access, (line) => say({ kind: 'note', line })),
    tokenizer,
    preparableOf: (task) => preparables.get(task),
  };
}
