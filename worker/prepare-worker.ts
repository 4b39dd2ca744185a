/** Creates a worker's parts once, at its first welcome, for all generations and coordinators: engine, feed, writer, state. */
import { checkConfig, workerHash } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { MessageOf, WorkerStall } from '../shared/protocol/messages.ts';
import { abortable } from '../shared/abort.ts';
import type { CheckpointWriter } from './checkpoint/checkpoint-writer.ts';
import { TrainingState } from './compute/training-state.ts';
import type { Engine } from './engine/engine.ts';
import type { Feed } from './feed/feed.ts';
import type { CoordinatorCommand, NetworkClient } from './network/network-client.ts';
import type { WorkerParts } from './worker-parts.ts';

/** The most that a `ready` carries (shared/protocol/messages.ts). */
const MAX_ENGINE_NOTES = 16;

export type Welcome = Extract<CoordinatorCommand, { kind: 'welcome' }>;

export interface Prepared {
  readonly welcome: Welcome;
  readonly engine: Engine;
  readonly feed: Pick<Feed, 'deal' | 'drop' | 'next' | 'release'>;
  readonly writer: Pick<CheckpointWriter, 'save' | 'idle' | 'callOff'>;
  readonly state: TrainingState;
  readonly facts: Omit<MessageOf<'ready'>, 'kind' | 'epoch' | 'held'>;
}

export interface PrepareInit {
  readonly welcome: Welcome;
  /** The welcome's config, checked. */
  readonly config: RunConfig;
  readonly parts: WorkerParts;
  readonly network: NetworkClient;
  readonly log: Logger;
  /** Receives the function that closes a part, as soon as the part exists. */
  readonly onOpened: (close: () => Promise<void>) => void;
  readonly signal: AbortSignal;
}

/** Starts the feed and creates the engine. @throws the engine's or the feed's failure; ABORTED */
export async function prepareWorker(init: PrepareInit): Promise<Prepared> {
  const { welcome, config, parts, network, log, onOpened, signal } = init;
  const { preparedFolder, mixtureHash } = welcome;
  const onStall = (stall: WorkerStall | null): void => network.post({ kind: 'source', stall });
  const feed = parts.startFeed({ config, preparedFolder, mixtureHash, log, onStall });
  onOpened(() => feed.stop());
  const { engine, reason, notes } = await parts.createEngine(config);
  onOpened(() => engine.dispose());
  const writer = parts.createWriter(engine);
  onOpened(() => writer.callOff());
  const { name, device, fingerprint } = engine.description;
  log.info({ engine: name, device, fingerprint, reason }, 'engine ready');
  for (const note of notes) log.warn({ reason: note }, 'engine not as it could be');
  const predicted = await parts.predict(config, name);
  await abortable(feed.opened, signal, `opening ${preparedFolder}`);
  const state = new TrainingState({
    engine,
    seed: config.seed,
    init: config.init,
    network,
    loadState: parts.loadState,
  });
  const numParameters = engine.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const facts = {
    engine: name,
    engineFingerprint: fingerprint,
    engineNotes: notes.slice(0, MAX_ENGINE_NOTES),
    predicted,
    mixtureHash,
    numParameters,
  };
  return { welcome, engine, feed, writer, state, facts };
}

/** @throws CONFIG_INVALID when the parts do not fit the run any more */
export function checkSame(before: Welcome, now: Welcome): void {
  const [a, b] = [before, now].map(({ config, preparedFolder, mixtureHash }) => ({
    config: workerHash(checkConfig(config, 'the config from the coordinator')),
    preparedFolder,
    mixtureHash,
  }));
  const changed = Object.keys(a!).filter((key) => a![key as keyof typeof a] !== b![key as keyof typeof b]);
  if (changed.length > 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `the run continues with another ${changed.join(' and ')} than this worker was started with; start it again`,
    );
}
