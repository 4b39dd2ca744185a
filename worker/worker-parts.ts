/** What a worker is made of, apart from its decisions: link thread, engine, feed. The simulation has others. */
import { availableParallelism } from 'node:os';
import type { RunConfig } from '../shared/config/schema.ts';
import { Thread } from '../shared/thread/thread.ts';
import type { Logger } from '../shared/logger.ts';
import type { MessageOf } from '../shared/protocol/messages.ts';
import { CheckpointWriter } from './checkpoint/checkpoint-writer.ts';
import { loadState } from './compute/load-state.ts';
import { predictWorker } from './compute/predict-worker.ts';
import { warmUp } from './compute/warm-up.ts';
import { createEngine, type CreatedEngine } from './engine-choice/create-engine.ts';
import type { Engine } from './engine/engine.ts';
import type { Feed } from './feed/feed.ts';
import { startFeed, type StartFeedInit } from './feed/start-feed.ts';
import type { NetworkClientInit, NetworkPort } from './network/network-client.ts';
import type { NetworkData, NetworkEvent, NetworkRequest } from './network/network-messages.ts';

export interface WorkerParts {
  /** @param progress memory of the ProgressCell */
  startNetwork(progress: SharedArrayBuffer, ...handlers: Parameters<NetworkClientInit['start']>): NetworkPort;
  /** One that computes its first step as fast as later ones; it holds no state of the run. */
  createEngine(config: RunConfig): Promise<CreatedEngine>;
  startFeed(init: StartFeedInit): Pick<Feed, 'deal' | 'drop' | 'next' | 'release' | 'opened' | 'stop'>;
  readonly loadState: typeof loadState;
  createWriter(engine: Engine): Pick<CheckpointWriter, 'save' | 'idle' | 'callOff'>;
  /** What the worker expects of itself, by a short measurement. */
  predict(config: RunConfig, engine: string): Promise<MessageOf<'ready'>['predicted']>;
}

export interface WorkerPartsInit extends Omit<NetworkData, 'progress'> {
  /** Overrides the run's compute.engine. */
  readonly engine?: string;
  /** Overrides the run's compute.device. */
  readonly device?: RunConfig['compute']['device'];
  /** Place among the workers of its host, from 0: which GPU is its own. */
  readonly localRank?: number;
  readonly log: Logger;
}

/** The product's. */
export function createWorkerParts(init: WorkerPartsInit): WorkerParts {
  const { engine, device, localRank = 0, log, ...network } = init;
  return {
    startNetwork: (progress, onMessage, onFailed) =>
      new Thread<NetworkRequest, NetworkEvent>({
        module: 'worker/network/network-thread.ts',
        data: { ...network, progress } satisfies NetworkData,
        onMessage,
        onFailed,
      }),
    createEngine: async (config) => {
      const { compute, model, training } = config;
      const created = await createEngine({
        name: engine ?? compute.engine,
        device: device ?? compute.device,
        // 0 is settled by `exmix train` for its workers; a worker of its own on a host takes all of it.
        numThreads: compute.threads === 0 ? availableParallelism() : compute.threads,
        precision: compute.precision,
        xla: compute.xla,
        allowTf32: compute.allowTf32,
        localRank,
        config: model,
        zLoss: training.zLoss,
        onWarning: (reason) => log.warn({ reason }, 'engine not as it could be'),
      });
      await warmUp(created.engine, config);
      return created;
    },
    startFeed,
    loadState,
    createWriter: (created) => new CheckpointWriter(created),
    predict: predictWorker,
  };
}
