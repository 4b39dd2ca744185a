/** Parameters and optimizer state as variables of a session: load, update, read back. */
import { assertInvariant } from '../../../shared/errors.ts';
import type { Optimizer } from '../../model/optimizer.ts';
import type { OptimizerUpdate } from '../../model/optimizer-rule.ts';
import type { OptimizerSlot } from '../../model/optimizer-slots.ts';
import { numElements, type ParameterSpec } from '../../model/parameters.ts';
import { recordUpdate, updateFeeds } from './recorded-update.ts';
import { DATA_TYPE } from './recording/graph-def.ts';
import type { RecordableBackend } from './recording/recorder.ts';
import { loadFeed, loadTarget, readName, variableNodes, type Variable } from './recording/variables.ts';
import type { GraphSession } from './session/graph-session.ts';
import type { CallHandle } from './session/session-binding.ts';

type Arrays = ReadonlyMap<string, Float32Array>;

export class SessionState {
  readonly #session: GraphSession;
  readonly #optimizer: Optimizer;
  readonly #specs: readonly ParameterSpec[];
  readonly #parameters: readonly Variable[];
  readonly #slots: readonly Variable[];
  readonly #loading: CallHandle;
  readonly #readingParameters: CallHandle;
  readonly #readingSlots: CallHandle;
  /** Prepared at the first update. */
  #updating: CallHandle | undefined;
  #isLoaded = false;

  /** @param slots those of the optimizer */
  constructor(
    session: GraphSession,
    optimizer: Optimizer,
    specs: readonly ParameterSpec[],
    slots: readonly OptimizerSlot[],
  ) {
    this.#session = session;
    this.#optimizer = optimizer;
    this.#specs = specs;
    this.#parameters = specs.map(({ name, shape }) => ({ name: `parameter/${name}`, shape }));
    this.#slots = slots.map(({ name, shape }) => ({ name: `slot/${name}`, shape }));
    const all = [...this.#parameters, ...this.#slots];
    session.extend(all.flatMap(variableNodes));
    this.#loading = session.prepare({
      feeds: all.map((variable) => ({ name: loadFeed(variable), dtype: DATA_TYPE.float32, shape: variable.shape })),
      groups: [[]],
      targets: all.map(loadTarget),
      copiesFeeds: true,
    });
    const reading = (variables: readonly Variable[]) =>
      session.prepare({ feeds: [], groups: [variables.map(readName)], targets: [], copiesFeeds: true });
    this.#readingParameters = reading(this.#parameters);
    this.#readingSlots = reading(this.#slots);
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Copies the arrays. @param optimizer all slots by name, or zero */
  load(parameters: Arrays, optimizer: Arrays | 'zero'): void {
    const feeds = [
      ...arrays(parameters, this.#parameters, 'parameter/'),
      ...(optimizer === 'zero'
        ? this.#slots.map(({ shape }) => new Float32Array(numElements(shape)))
        : arrays(optimizer, this.#slots, 'slot/')),
    ];
    this.#session.run(this.#loading, feeds, () => undefined);
    this.#isLoaded = true;
  }

  /** One update of everything. @param backend records it at the first call @throws GRAPH_UNRECORDABLE */
  apply(backend: RecordableBackend, gradients: readonly Float32Array[], update: OptimizerUpdate): void {
    this.#updating ??= this.#prepareUpdate(backend);
    this.#session.run(this.#updating, [...gradients, ...updateFeeds(this.#optimizer, update)], () => undefined);
  }

  /** Fills the given arrays. */
  readBack(parameters: Arrays, optimizer: Arrays): void {
    this.#fill(parameters, this.#readingParameters, this.#parameters, 'parameter/');
    this.#fill(optimizer, this.#readingSlots, this.#slots, 'slot/');
  }

  /** Copies of everything, by name. */
  read(): [Map<string, Float32Array>, Map<string, Float32Array>] {
    const empty = (variables: readonly Variable[], prefix: string) =>
      new Map(variables.map(({ name, shape }) => [name.slice(prefix.length), new Float32Array(numElements(shape))]));
    const [parameters, optimizer] = [empty(this.#parameters, 'parameter/'), empty(this.#slots, 'slot/')];
    this.readBack(parameters, optimizer);
    return [parameters, optimizer];
  }

  /** The variables of the parameters, and copies of their values. */
  weights(): { readonly variables: readonly Variable[]; readonly weights: readonly Float32Array[] } {
    const weights = this.#session.run(this.#readingParameters, [], (values) => values.map((value) => value.slice()));
    return { variables: this.#parameters, weights };
  }

  /** Ends the session, which frees the variables. */
  close(): void {
    this.#isLoaded = false;
    this.#session.close();
  }

  memory(): { numTensors: number; numBytes: number } {
    if (!this.#isLoaded) return { numTensors: 0, numBytes: 0 };
    const all = [...this.#parameters, ...this.#slots];
    const numValues = all.reduce((sum, { shape }) => sum + numElements(shape), 0);
    return { numTensors: all.length, numBytes: numValues * Float32Array.BYTES_PER_ELEMENT };
  }

  #prepareUpdate(backend: RecordableBackend): CallHandle {
    const { nodes, feeds, targets } = recordUpdate(backend, this.#optimizer, this.#specs, {
      parameters: this.#parameters,
      slots: this.#slots,
    });
    this.#session.extend(nodes);
    return this.#session.prepare({ feeds, groups: [[]], targets, copiesFeeds: false });
  }

  #fill(wanted: Arrays, call: CallHandle, variables: readonly Variable[], prefix: string): void {
    if (wanted.size === 0) return;
    this.#session.run(call, [], (values) => {
      for (const [i, { name }] of variables.entries()) wanted.get(name.slice(prefix.length))?.set(values[i]!);
    });
  }
}

function arrays(named: Arrays, variables: readonly Variable[], prefix: string): Float32Array[] {
  return variables.map(({ name }) => {
    const values = named.get(name.slice(prefix.length));
    assertInvariant(values !== undefined, `${name} is missing`);
    return values;
  });
}
