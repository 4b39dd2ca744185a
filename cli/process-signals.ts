/** Turns signals to this process into requests to stop: the first one asks for an end in order, a second one for an end at once. */
import { TrainerError } from '../shared/errors.ts';
import { STOP_SIGNALS, type StopSignals } from '../shared/stop-signals.ts';

/**
 * The same signal again within this time is the same request, ms. npm and timeout(1) send a signal on that the process group has had already,
 * and a shell that hangs up does so too.
 */
const SAME_REQUEST_MS = 250;

/** The first signal after `canStopGently` stops the work gently. An earlier one, or a second one, ends it at once. */
export class ProcessSignals implements StopSignals {
  canStopGently: boolean;
  readonly #gentle = new AbortController();
  readonly #atOnce = new AbortController();
  readonly #remove: () => void;

  constructor({ canStopGently }: { readonly canStopGently: boolean }) {
    this.canStopGently = canStopGently;
    this.#remove = onStopRequest((name) => {
      if (this.canStopGently && !this.gentle.aborted) this.#gentle.abort(name);
      else this.#atOnce.abort(new TrainerError('ABORTED', `${name}: ended at once`));
    });
  }

  get gentle(): AbortSignal {
    return this.#gentle.signal;
  }

  get atOnce(): AbortSignal {
    return this.#atOnce.signal;
  }

  /** The signals have their default action again. */
  dispose(): void {
    this.#remove();
  }
}

/** Runs work that a signal may cancel: the first request aborts the work's signal, a second one ends the process by its default action. */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupt = new AbortController();
  const remove = onStopRequest((name) => {
    if (!interrupt.signal.aborted) {
      interrupt.abort(name);
      return;
    }
    remove();
    process.kill(process.pid, name);
  });
  try {
    return await work(interrupt.signal);
  } finally {
    remove();
  }
}

/** @returns a function that gives the signals their default action again */
function onStopRequest(handle: (name: NodeJS.Signals) => void): () => void {
  let last: { readonly name: NodeJS.Signals; readonly atMs: number } | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    const atMs = performance.now();
    if (last?.name === name && atMs - last.atMs < SAME_REQUEST_MS) return;
    last = { name, atMs };
    handle(name);
  };
  for (const name of STOP_SIGNALS) process.on(name, onSignal);
  return () => {
    for (const name of STOP_SIGNALS) process.off(name, onSignal);
  };
}
