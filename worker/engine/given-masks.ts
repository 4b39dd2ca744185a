/**
 * A training step whose dropout masks are given, as reference numbers have them: the passes of the engines, on the backend of one, without its
 * state. An engine itself never gets masks: it makes them from keys.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { siteName, type Dropout } from '../model/dropout.ts';
import { withFusedBlocks } from '../model/fused-kernels.ts';
import { parameterSpecs } from '../model/parameters.ts';
import { batchParts, uploadBatch } from './batch-tensors.ts';
import type { Batch, ForwardOutput, StepOutput } from './engine.ts';
import { leavingNoTensors } from './tensor-leak.ts';
import { enterBackend, type TfjsBackend } from './tfjs-backend.ts';
import { activations, lossAndGradients, stepOutput } from './tfjs-passes.ts';

export interface GivenMask {
  /** [B, L or 1, D] or [B, N, Q or 1, K] */
  readonly shape: readonly number[];
  /** 1: kept, 0: dropped. */
  readonly keep: Float32Array;
}

export interface GivenMasksInit {
  /** Open; of the native engine with `fusesBlocks` where its addon has registered the kernels. */
  readonly backend: TfjsBackend;
  readonly fusesBlocks: boolean;
  readonly config: ModelConfig;
  readonly zLoss: number;
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly rate: number;
  /** By the name of the site. */
  readonly masks: ReadonlyMap<string, GivenMask>;
}

export interface StepWithMasks extends StepOutput, ForwardOutput {
  /** Of the sum of all losses, by the parameter's name. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
  /** Sites that took their mask. */
  readonly numUsed: number;
}

/** @throws INTERNAL for a site without a mask */
export async function stepWithMasks(init: GivenMasksInit, batch: Batch): Promise<StepWithMasks> {
  const { backend, config, zLoss, parameters, fusesBlocks } = init;
  await enterBackend(backend);
  return leavingNoTensors(`step with given masks on ${backend}`, () => {
    const specs = parameterSpecs(config);
    const uploaded = uploadBatch(batchParts(batch));
    const weights = specs.map(({ name, shape }) => tf.tensor(parameters.get(name)!.slice(), [...shape]));
    const scale = 1 / (1 - init.rate);
    const masks = new Map(
      [...init.masks].map(([name, { shape, keep }]) => [
        name,
        tf.tensor(
          keep.map((one) => one * scale),
          [...shape],
        ),
      ]),
    );
    const used = new Set<string>();
    const pass = { config, specs, weights, batch: uploaded, dropout: givenDropout(masks, used) };
    const run = () => ({ ...lossAndGradients(pass, zLoss), ...activations(pass) });
    const { terms_M2, gradients, encoderOutput_MD, logits_MV } = fusesBlocks ? withFusedBlocks(run) : run();
    const values = (tensor: Tensor) => tensor.dataSync<'float32'>().slice();
    const result = {
      ...stepOutput(values(terms_M2)),
      gradients: new Map(gradients.map((gradient, i) => [specs[i]!.name, values(gradient)])),
      encoderOutput: values(encoderOutput_MD),
      logits: values(logits_MV),
      numUsed: used.size,
    };
    tf.dispose([terms_M2, ...gradients, encoderOutput_MD, logits_MV, ...uploaded.all, ...weights, ...masks.values()]);
    return result;
  });
}

function givenDropout(masks: ReadonlyMap<string, Tensor>, used: Set<string>): Dropout {
  return {
    multiply: <T extends Tensor>(x: T, site: Parameters<typeof siteName>[0]): T => {
      const name = siteName(site);
      const mask = masks.get(name);
      assertInvariant(mask !== undefined, `no mask is given for ${name}`);
      used.add(name);
      const numRows = mask.shape[0];
      const rows = x.rank === 2 ? tf.reshape(x, [numRows, -1, x.shape[1]!]) : x;
      return tf.reshape(tf.mul(rows, mask), x.shape) as T;
    },
  };
}
