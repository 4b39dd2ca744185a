/** The Transport of one process of the simulation: listens and dials with the rules of websocket-listener.ts and websocket-dial.ts. */
import { abortedError, throwIfAborted } from '../../shared/abort.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { authenticate } from '../../shared/transport/memory-admission.ts';
import type { Connection, DialInit, Listener, ListenInit, Transport } from '../../shared/transport/transport.ts';
import type { Listening, SimulatedNetwork } from './simulated-network.ts';
import type { VirtualProcess } from './virtual-process.ts';

const SCHEME = 'sim';
const PROTOCOL = `${SCHEME}:`;

export class SimulatedTransport implements Transport {
  readonly scheme = SCHEME;
  readonly #network: SimulatedNetwork;
  readonly #process: VirtualProcess;

  constructor(network: SimulatedNetwork, process: VirtualProcess) {
    this.#network = network;
    this.#process = process;
    network.attach(process);
  }

  listen(init: ListenInit): Promise<Listener> {
    try {
      const { port, listening } = this.#network.listen(this.#process, init);
      const close = async (): Promise<void> => {
        this.#network.stopListening(listening);
        const accepted = [...listening.accepted];
        for (const connection of accepted) connection.close('NORMAL', 'the listener closes');
        await Promise.all(accepted.map(({ closed }) => closed));
      };
      return Promise.resolve({ port, url: `${PROTOCOL}//${init.host}:${port}`, localUrl: null, close });
    } catch (error) {
      return Promise.reject(toTrainerError(error));
    }
  }

  async dial(url: string, init: DialInit): Promise<Connection> {
    throwIfAborted(init.signal, `connecting to ${url}`);
    const parsed = URL.canParse(url) ? new URL(url) : null;
    if (parsed?.protocol !== PROTOCOL)
      throw new TrainerError('CONFIG_INVALID', `address: expected ${PROTOCOL}//host:port/path, found ${url}`);
    return new Promise((resolve, reject) => {
      const path = parsed.pathname + parsed.search;
      new Attempt(
        this.#network,
        this.#process,
        { url, address: parsed.host, path, ...init },
        resolve,
        reject,
      ).request();
    });
  }
}

type AttemptInit = DialInit & { readonly url: string; readonly address: string; readonly path: string };

/** One attempt to connect: a request travels to the listener, which checks the token; the answer travels back. */
class Attempt {
  readonly #network: SimulatedNetwork;
  readonly #process: VirtualProcess;
  readonly #init: AttemptInit;
  readonly #label: string;
  #isOver = false;
  /** Ends the attempt; a failure terminates a connection that was already created. */
  readonly #settle: (outcome: Connection | TrainerError) => void;
  #abandon: () => void = () => undefined;

  constructor(
    network: SimulatedNetwork,
    process: VirtualProcess,
    init: AttemptInit,
    resolve: (connection: Connection) => void,
    reject: (error: TrainerError) => void,
  ) {
    this.#network = network;
    this.#process = process;
    this.#init = init;
    this.#label = `${process.name} dials ${init.url}`;
    const { url, timeoutMs, signal } = init;
    const late = process.schedule(timeoutMs, this.#label, () => this.#fail(`no answer`));
    const onAbort = (): void => this.#settle(abortedError(`connecting to ${url}`, signal));
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#settle = (outcome) => {
      if (this.#isOver) return;
      this.#isOver = true;
      late.cancel();
      signal?.removeEventListener('abort', onAbort);
      if (outcome instanceof TrainerError) {
        this.#abandon();
        reject(outcome);
      } else resolve(outcome);
    };
  }

  request(): void {
    const network = this.#network;
    network.time.schedule(network.delayMs(), this.#label, () => {
      if (this.#isOver || this.#process.state === 'crashed') return;
      const listening = network.listeningAt(this.#init.address);
      if (listening === undefined) this.#answer(() => this.#fail('no process listens'));
      // Like a kernel, it retries until the attempt is cancelled.
      else if (network.isBlocked(this.#process, listening.process)) network.onHeal(() => this.request());
      else this.#arrive(listening);
    });
  }

  #arrive(listening: Listening): void {
    const { process } = listening;
    process.onCrash(() => {
      if (!this.#isOver) this.#answer(() => this.#fail('the connection was reset'));
    });
    process.enter(this.#label, () => {
      if (!this.#isOver && this.#process.state !== 'crashed') this.#admit(listening);
    });
  }

  /** Runs in the listening process. */
  #admit(listening: Listening): void {
    const { url, path, limits } = this.#init;
    const { init } = listening;
    const remote = this.#process.name;
    if (this.#network.listeningAt(this.#init.address) !== listening) {
      this.#answer(() => this.#fail('no process listens'));
      return;
    }
    let greeting: string;
    try {
      greeting = authenticate(init, this.#init, { url, path, remote });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      this.#answer(() => this.#settle(error));
      return;
    }
    const { near, far } = this.#network.connect(this.#process, listening, { url, path, greeting, limits });
    near.onOpened = () => this.#settle(near);
    void near.closed.then(() => this.#fail('the connection was reset'));
    this.#abandon = () => near.terminate();
    far.accept();
    init.onConnection(far);
  }

  /** Runs `then` in the dialling process, after one delay. */
  #answer(then: () => void): void {
    this.#process.schedule(this.#network.delayMs(), this.#label, then);
  }

  #fail(why: string): void {
    const { url, timeoutMs } = this.#init;
    this.#settle(
      new TrainerError('CONNECT_FAILED', `cannot connect to ${url} within ${timeoutMs} ms: ${why}`, {
        retryable: true,
      }),
    );
  }
}
