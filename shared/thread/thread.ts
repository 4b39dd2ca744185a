/**
 * A worker thread that runs one module and talks in typed messages. The module's side is `threadPort()`.
 * A thread that throws ends with a TrainerError on `failed`; nothing is lost in a dangling 'error' event.
 */
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parentPort, Worker, workerData, type Transferable } from 'node:worker_threads';
import { assertInvariant, toTrainerError, TrainerError } from '../errors.ts';
import { entryPoint, packageFile } from '../package-files.ts';

/** Makes a thread read TypeScript: a thread has not the loader of its parent. */
const BOOTSTRAP = 'shared/thread/bootstrap.mjs';

export interface ThreadInit<Out> {
  /** An entry point (shared/package-files.ts), or, in a test, the path of a TypeScript file. */
  readonly module: string;
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
    const { file, execArgv } = entryPoint(module);
    this.#worker = file.endsWith('.ts')
      ? new Worker(packageFile(BOOTSTRAP), { workerData: { module: pathToFileURL(file).href, data } })
      : new Worker(file, { workerData: { data }, execArgv: [...execArgv] });
    let failure: TrainerError | undefined;
    this.#worker.on('message', onMessage);
    this.#worker.on('error', (error) => {
      failure = toTrainerError(error);
      onFailed(failure);
    });
    this.exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        if (!this.#isStopping && failure === undefined && code !== 0)
          onFailed(new TrainerError('INTERNAL', `thread ${basename(module)} exited with ${code}`));
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
