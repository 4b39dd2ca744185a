/** Creates the native engine from an installed one: loads its two addons, opens a session, describes the device. */
import { TrainerError } from '../../../shared/errors.ts';
import type { InstalledEngine } from '../../../shared/installed-engine.ts';
import type { ModelConfig } from '../../../shared/model-config.ts';
import { ADAFACTOR, type OptimizerSettings } from '../../../shared/optimizer.ts';
import { NO_DROPOUT, type DropoutSettings } from '../../model/dropout.ts';
import type { Engine, EngineDescription } from '../engine.ts';
import { TfjsEngine } from '../tfjs-engine.ts';
import { loadAddon, NATIVE_BACKEND, type LoadedAddon } from './addon/load-addon.ts';
import { NativeEngine } from './native-engine.ts';
import { installNativeKernels } from './native-kernels.ts';
import { GraphSession } from './session/graph-session.ts';
import { loadSessionBinding } from './session/session-binding.ts';
import { sessionConfig } from './session/session-config.ts';

/** Raised with every change of the model, the recorded graphs, native-kernels.ts or kernels/ that may change bits. */
const GRAPHS_REVISION = 2;

export interface CreateNativeEngineInit {
  readonly installed: InstalledEngine;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; 0 for none. */
  readonly zLoss: number;
  /** Adafactor unless given. */
  readonly optimizer?: OptimizerSettings | undefined;
  /** Of training steps; none unless given. */
  readonly dropout?: DropoutSettings | undefined;
  /** Threads of one operation (at least two run at a time, session-config.ts); decides bits. */
  readonly numThreads: number;
  readonly device: 'cpu' | 'gpu';
  /** False: when TensorFlow finds no GPU it can use, the engine continues on the CPU, and its description says so. True unless given. */
  readonly isGpuRequired?: boolean;
  /** Of the matrix products; sums stay float32. */
  readonly precision: 'float32' | 'bfloat16';
  readonly xla: boolean;
  readonly allowTf32: boolean;
  /** `eager` is the reference: JavaScript calls every operation. */
  readonly mode?: 'recorded' | 'eager';
  /** Receives a sentence when a recorded graph is refused and the engine continues eagerly. */
  readonly onWarning: (sentence: string) => void;
}

/** Once per process with one set of options. @throws ENGINE_UNAVAILABLE */
export function createNativeEngine(init: CreateNativeEngineInit): Engine {
  const { installed, config, zLoss, numThreads, device, precision, xla, allowTf32, mode = 'recorded' } = init;
  const { isGpuRequired = true, optimizer = ADAFACTOR, dropout = NO_DROPOUT } = init;
  const { addonPath } = installed;
  const addon = loadAddon({ addonPath, numThreads, device, allowTf32, xla });
  if (device === 'gpu' && isGpuRequired && !addon.isUsingGpu)
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      'device gpu was asked for, but TensorFlow found no GPU it can use; exmix doctor says what is missing, --device cpu goes on without',
    );
  installNativeKernels(addon.backend);
  const description = describe(init, addon, mode);
  const model = { config, zLoss, optimizer, dropout };
  if (mode === 'eager') return new TfjsEngine({ backend: NATIVE_BACKEND, ...model }, description);
  const binding = loadSessionBinding(installed.sessionAddonPath);
  const fusesBlocks = !addon.isUsingGpu && precision === 'float32' && !xla;
  if (fusesBlocks) binding.useKernels(numThreads);
  const session = new GraphSession(binding, sessionConfig({ numThreads, xla }));
  const backend = recordable(addon);
  const { onWarning } = init;
  return new NativeEngine({ description, backend, session, ...model, precision, fusesBlocks, onWarning });
}

function describe(init: CreateNativeEngineInit, addon: LoadedAddon, mode: string): EngineDescription {
  const { numThreads, precision, xla, allowTf32 } = init;
  const threads = `${numThreads} ${numThreads === 1 ? 'thread' : 'threads'}`;
  const device = addon.isUsingGpu ? 'GPU' : `CPU with ${threads}`;
  const facts = [
    `TensorFlow ${addon.version}`,
    device,
    `${mode} graphs ${GRAPHS_REVISION}`,
    `oneDNN ${addon.environment['TF_ENABLE_ONEDNN_OPTS'] ?? 'default'}`,
    precision,
    ...(xla ? ['XLA'] : []),
    ...(addon.isUsingGpu && allowTf32 ? ['TF32'] : []),
  ];
  return { name: 'native', version: addon.version, device, fingerprint: facts.join('; ') };
}

/** The backend's class declares as private some parts that the recorder uses; recorder.ts lists them, and its test checks them. */
export function recordable({ backend }: LoadedAddon): ConstructorParameters<typeof NativeEngine>[0]['backend'] {
  return backend as unknown as ConstructorParameters<typeof NativeEngine>[0]['backend'];
}
