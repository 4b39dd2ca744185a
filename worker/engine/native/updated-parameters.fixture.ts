/** Any parameters, updated by the code that an engine's `apply` runs: eager tfjs, or a recorded graph with fused blocks. */
import * as tf from '@tensorflow/tfjs';
import { exmixHome } from '../../../shared/exmix-home.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { findInstalledEngine } from '../../../shared/installed-engine.ts';
import type { OptimizerSettings } from '../../../shared/optimizer.ts';
import { withFusedBlocks } from '../../model/fused-kernels.ts';
import type { OptimizerUpdate } from '../../model/optimizer-rule.ts';
import { optimizerSlots } from '../../model/optimizer-slots.ts';
import { createOptimizer } from '../../model/optimizer.ts';
import { numElements, type ParameterSpec } from '../../model/parameters.ts';
import { enterBackend, openBackend, type PackagedBackend } from '../tfjs-backend.ts';

export interface UpdatedParameters {
  apply(gradients: readonly Float32Array[], update: OptimizerUpdate): void;
  read(): { readonly parameters: readonly Float32Array[]; readonly slots: readonly Float32Array[] };
  close(): void;
}

/** @param start values of each parameter */
export async function openUpdated(
  engine: 'native' | PackagedBackend,
  settings: OptimizerSettings,
  specs: readonly ParameterSpec[],
  start: readonly Float32Array[],
): Promise<UpdatedParameters> {
  if (engine === 'native') return openRecorded(settings, specs, start);
  await openBackend(engine);
  return openEager(engine, settings, specs, start);
}

async function openEager(
  backend: PackagedBackend,
  settings: OptimizerSettings,
  specs: readonly ParameterSpec[],
  start: readonly Float32Array[],
): Promise<UpdatedParameters> {
  await enterBackend(backend);
  const optimizer = createOptimizer(settings);
  const parameters = specs.map(({ shape }, i): tf.Tensor => tf.tensor(start[i]!, [...shape]));
  const slots = specs.map(({ shape }) =>
    optimizer.slotSpecs(shape).map((slot): tf.Tensor => tf.zeros([...slot.shape])),
  );
  const read = (tensor: tf.Tensor): Float32Array => tensor.dataSync<'float32'>().slice();
  return {
    apply: (gradients, update) => {
      for (const [i, spec] of specs.entries()) {
        const before = [parameters[i]!, ...slots[i]!];
        const after = tf.tidy(() => {
          const gradientSum = tf.tensor(gradients[i]!, [...spec.shape]);
          const scalars = optimizer.numbers(update).map((value) => tf.scalar(value, 'float32'));
          const of = { parameter: parameters[i]!, gradientSum, slots: slots[i]! };
          const updated = optimizer.update(of, scalars, optimizer.decays(spec));
          return [updated.parameter, ...updated.slots];
        });
        tf.dispose(before);
        [parameters[i], ...slots[i]] = after as [tf.Tensor, ...tf.Tensor[]];
      }
    },
    read: () => ({ parameters: parameters.map(read), slots: slots.flat().map(read) }),
    close: () => {
      tf.dispose([...parameters, ...slots.flat()]);
    },
  };
}

async function openRecorded(
  settings: OptimizerSettings,
  specs: readonly ParameterSpec[],
  start: readonly Float32Array[],
): Promise<UpdatedParameters> {
  const installed = await findInstalledEngine(exmixHome());
  if (installed === undefined) throw new TrainerError('ENGINE_UNAVAILABLE', 'no native engine: exmix engine install');
  const { loadAddon, NATIVE_BACKEND } = await import('./addon/load-addon.ts');
  const { recordable } = await import('./create-native-engine.ts');
  const { installNativeKernels } = await import('./native-kernels.ts');
  const { SessionState } = await import('./session-state.ts');
  const { GraphSession } = await import('./session/graph-session.ts');
  const { loadSessionBinding } = await import('./session/session-binding.ts');
  const { sessionConfig } = await import('./session/session-config.ts');
  const addonInit = {
    addonPath: installed.addonPath,
    numThreads: 1,
    device: 'cpu',
    allowTf32: false,
    xla: false,
  } as const;
  const addon = loadAddon(addonInit);
  installNativeKernels(addon.backend);
  const binding = loadSessionBinding(installed.sessionAddonPath);
  binding.useKernels(1);
  await enterBackend(NATIVE_BACKEND);
  const slots = optimizerSlots(specs, settings.kind);
  const session = new GraphSession(binding, sessionConfig({ numThreads: 1, xla: false }));
  const state = new SessionState(session, createOptimizer(settings), specs, slots);
  state.load(new Map(specs.map(({ name }, i) => [name, start[i]!])), 'zero');
  const empty = (tensors: readonly { readonly name: string; readonly shape: readonly number[] }[]) =>
    new Map(tensors.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
  return {
    apply: (gradients, update) => {
      withFusedBlocks(() => {
        state.apply(recordable(addon), gradients, update);
      });
    },
    read: () => {
      const [parameters, held] = [empty(specs), empty(slots)];
      state.readBack(parameters, held);
      return { parameters: [...parameters.values()], slots: [...held.values()] };
    },
    close: () => {
      state.close();
    },
  };
}
