/** The parts of a worker: network thread, engine, feed, checkpoint writer. Tests and the simulation have others. */
import { availableParallelism } from 'node:os';
import type { RunConfig } from '../shared/config/schema.ts';
import { Thread } from '../shared/thread/thread.ts';
import type { Logger } from '../shared/logger.ts';
import type { ModelConfig } from '../shared/model-config.ts';
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
  /** Creates the engine and warms it up; it then has no state of the run. */
  createEngine(config: RunConfig): Promise<CreatedEngine>;
  /** Creates the engine of an evaluation; it has no parameters. */
  createEvaluationEngine(compute: RunConfig['compute'], model: ModelConfig): Promise<CreatedEngine>;
  startFeed(init: StartFeedInit): Pick<Feed, 'deal' | 'drop' | 'next' | 'release' | 'opened' | 'stop'>;
  readonly loadState: typeof loadState;
  createWriter(engine: Engine): Pick<CheckpointWriter, 'save' | 'idle' | 'callOff'>;
  /** Predicts time and memory of a step, by a short measurement. */
  predict(config: RunConfig, engine: string): Promise<MessageOf<'ready'>['predicted']>;
}

export interface WorkerPartsInit extends Omit<NetworkData, 'progress'> {
  /** Overrides the run's compute.engine. */
  readonly engine?: string;
  /** Overrides the run's compute.device. */
  readonly device?: RunConfig['compute']['device'];
  /** Index among the workers of its host, from 0: selects its GPU. */
  readonly localRank?: number;
  readonly log: Logger;
}

/** The parts of the product. */
export function createWorkerParts(init: WorkerPartsInit): WorkerParts {
  const { engine, device, localRank = 0, log, ...network } = init;
  const create = (compute: RunConfig['compute'], model: ModelConfig, zLoss: number): Promise<CreatedEngine> =>
    createEngine({
      name: engine ?? compute.engine,
      device: device ?? compute.device,
      // 0: all processors. `exmix train` divides them among its workers and never sends 0.
      numThreads: compute.threads === 0 ? availableParallelism() : compute.threads,
      precision: compute.precision,
      xla: compute.xla,
      allowTf32: compute.allowTf32,
      localRank,
      config: model,
      zLoss,
      onWarning: (reason) => log.warn({ reason }, 'engine not as it could be'),
    });
  return {
    startNetwork: (progress, onMessage, onFailed) =>
      new Thread<NetworkRequest, NetworkEvent>({
        module: 'worker/network/network-thread.ts',
        data: { ...network, progress } satisfies NetworkData,
        onMessage,
        onFailed,
      }),
    createEngine: async (config) => {
      const created = await create(config.compute, config.model, config.training.zLoss);
      await warmUp(created.engine, config);
      return created;
    },
    createEvaluationEngine: (compute, model) => create(compute, model, 0),
    startFeed,
    loadState,
    createWriter: (created) => new CheckpointWriter(created),
    predict: predictWorker,
  };
}
