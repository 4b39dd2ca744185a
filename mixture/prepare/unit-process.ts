/**
 * A process that makes units, one at a time, at the request of its parent. It ends when the parent stops it or is gone.
 * It ignores signals that a terminal or a job scheduler sends to all processes: the parent aborts the work in order.
 */
import { assertInvariant, toErrorRecord, toTrainerError } from '../../shared/errors.ts';
import { systemClock } from '../../shared/clock.ts';
import { STOP_SIGNALS } from '../../shared/stop-signals.ts';
import { standardError } from '../../shared/standard-streams.ts';
import { reportRetries } from '../sources/source-access.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { ensureUnit, type UnitContext, type UnitOrder } from './ensure-unit.ts';
import { listPreparables } from './preparable-task.ts';
import type { FromUnitProcess, ToUnitProcess, UnitSetting } from './unit-messages.ts';

/** Pause between two progress messages, ms. */
const PROGRESS_INTERVAL_MS = 500;

const interrupt = new AbortController();
let context: Promise<UnitContext> | undefined;

for (const signal of STOP_SIGNALS) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(1));
process.on('message', (message: ToUnitProcess) => {
  switch (message.kind) {
    case 'begin':
      context = createContext(message.setting);
      context.catch(() => undefined); // the first unit reports it
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
  let sentAt = systemClock.monotonicMs();
  try {
    assertInvariant(context !== undefined, 'the setting arrives before the first unit');
    const ensured = await ensureUnit(order, await context, {
      signal: interrupt.signal,
      onProgress: (progress) => {
        const now = systemClock.monotonicMs();
        if (now - sentAt < PROGRESS_INTERVAL_MS) return;
        sentAt = now;
        send({ kind: 'progress', progress });
      },
    });
    send({ kind: 'done', ensured });
  } catch (error) {
    const record = toErrorRecord(error);
    const cause = toTrainerError(error).cause;
    // The stack of a bug cannot be sent. It is printed here, and the parent shows the output of its child.
    if (record.code === 'INTERNAL' && cause instanceof Error) standardError.write(`${cause.stack ?? ''}\n`);
    send({ kind: 'failed', error: record });
  }
  isBusy = false;
  if (interrupt.signal.aborted) process.disconnect();
}

function send(message: FromUnitProcess): void {
  // The event 'disconnect' reports the end of the parent.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}

async function createContext({ mixturePath, mixtureOptions, access, ...setting }: UnitSetting): Promise<UnitContext> {
  const mixture = loadMixture(mixturePath, mixtureOptions);
  const preparables = new Map(listPreparables(mixture, setting.featureLengths).map((of) => [of.task.name, of]));
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  return {
    ...setting,
    access: reportRetries(access, (line) => send({ kind: 'note', line })),
    tokenizer,
    preparableOf: (task) => preparables.get(task),
  };
}
