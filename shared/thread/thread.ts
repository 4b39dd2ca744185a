/**
 * A worker thread that runs one TypeScript module and talks in typed messages. The module's side is `threadPort()`.
 * A thread that throws ends with a TrainerError on `failed`; nothing is lost in a dangling 'error' event.
 */
import { parentPort, Worker, workerData, type Transferable } from 'node:worker_threads';
import { assertInvariant, toTrainerError, TrainerError } from '../errors.ts';

const BOOTSTRAP = new URL('./bootstrap.mjs', import.meta.url);

export interface ThreadInit<Out> {
  /** The TypeScript module to run. */
  readonly module: URL;
  /** Cloned into the thread; SharedArrayBuffers and shared WebAssembly.Memory stay shared. */
  readonly data?: unknown;
  readonly onMessage: (message: Out) => void;
  /** The thread has thrown, or has exited without being told to. */
  readonly onFailed: (error: TrainerError) => void;
}

export class Thread<In, Out> {
  readonly #worker: Worker;
  /** Resolves when the thread is gone. */
  readonly exited: Promise<void>;
  #isStopping = false;

  constructor({ module, data, onMessage, onFailed }: ThreadInit<Out>) {
    this.#worker = new Worker(BOOTSTRAP, { workerData: { module: module.href, data } });
    let failure: TrainerError | undefined;
    this.#worker.on('message', onMessage);
    this.#worker.on('error', (error) => {
      failure = toTrainerError(error);
      onFailed(failure);
    });
    this.exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        const name = module.pathname.split('/').at(-1);
        if (!this.#isStopping && failure === undefined && code !== 0)
          onFailed(new TrainerError('INTERNAL', `thread ${name} exited with ${code}`));
        resolve();
      });
    });
  }

  post(message: In, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  /** Ends the thread at once, wherever it is. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#worker.terminate();
  }
}

export interface ThreadPort<In, Out> {
  readonly data: unknown;
  post(message: Out, transfer?: Transferable[]): void;
  onMessage(handler: (message: In) => void): void;
  /** No more messages are taken; the thread ends when its work does. */
  close(): void;
}

/** The thread's own side; types are those of the Thread that started it. */
export function threadPort<In, Out>(): ThreadPort<In, Out> {
  const port = parentPort;
  assertInvariant(port !== null, 'this module runs in a thread of its own');
  return {
    data: (workerData as { data: unknown }).data,
    post: (message, transfer = []) => port.postMessage(message, transfer),
    onMessage: (handler) => port.on('message', handler),
    close: () => port.close(),
  };
}
