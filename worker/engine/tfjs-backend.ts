/**
 * The tfjs backends of this process: opened once, silenced, and described.
 * tfjs is one global library: engines of two backends in one process work one call after the other, and each enters its backend first.
 */
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { TrainerError } from '../../shared/errors.ts';
import { vendoredFile } from '../../shared/package-files.ts';

/** `tensorflow` is registered by the addon's loader (native/addon). */
export type TfjsBackend = 'wasm' | 'cpu' | 'tensorflow';
export type PackagedBackend = Exclude<TfjsBackend, 'tensorflow'>;

/** Raised with every change of wasm-kernels.ts, matrix-product.ts or the model that may change bits. */
const KERNELS_REVISION = 2;

export interface BackendDescription {
  readonly name: PackagedBackend;
  readonly version: string;
  readonly device: string;
  readonly fingerprint: string;
}

const opened = new Map<PackagedBackend, Promise<BackendDescription>>();

/** Opens a backend once; a second call returns the first's result. @throws ENGINE_UNAVAILABLE */
export function openBackend(name: PackagedBackend): Promise<BackendDescription> {
  const known = opened.get(name);
  if (known !== undefined) return known;
  const opening = name === 'wasm' ? openWasm() : openCpu();
  opened.set(name, opening);
  return opening;
}

/** Makes an opened backend the current one. */
export async function enterBackend(name: TfjsBackend): Promise<void> {
  if (tf.getBackend() === name) return;
  if (!(await tf.setBackend(name)))
    throw new TrainerError('ENGINE_UNAVAILABLE', `the tfjs backend ${name} could not be started on this machine`);
}

async function openCpu(): Promise<BackendDescription> {
  tf.enableProdMode(); // no banner, no checks of every tensor
  await enterBackend('cpu');
  await registerCpuMasks();
  return describe('cpu', 'plain JavaScript on one thread');
}

/** The used part of MathBackendCPU. */
interface CpuInternals {
  readonly data: { get(dataId: object): { readonly values: Float32Array | Int32Array } };
  makeTensorInfo(shape: number[], dtype: 'float32', values: Float32Array): tf.TensorInfo;
}

async function registerCpuMasks(): Promise<void> {
  const { registerMaskKernel } = await import('./mask-kernels.ts');
  const backend = tf.backend() as unknown as CpuInternals;
  registerMaskKernel('cpu', {
    makeOutput: (shape) => backend.makeTensorInfo(shape, 'float32', new Float32Array(tf.util.sizeFromShape(shape))),
    float32s: ({ dataId }) => backend.data.get(dataId).values as Float32Array,
    int32s: ({ dataId }) => backend.data.get(dataId).values as Int32Array,
  });
}

async function openWasm(): Promise<BackendDescription> {
  tf.enableProdMode();
  const { setWasmPaths } = await import('./wasm-package.ts');
  setWasmPaths(join(vendoredFile('@tensorflow/tfjs-backend-wasm', 'dist'), '/'));
  const before = new Set(process.listeners('uncaughtException'));
  const beforeRejection = new Set(process.listeners('unhandledRejection'));
  await enterBackend('wasm');
  // Emscripten's runtime handles failures of the whole process; exmix handles them itself.
  for (const listener of process.listeners('uncaughtException'))
    if (!before.has(listener)) process.removeListener('uncaughtException', listener);
  for (const listener of process.listeners('unhandledRejection'))
    if (!beforeRejection.has(listener)) process.removeListener('unhandledRejection', listener);

  const { installWasmKernels } = await import('./wasm-kernels.ts');
  installWasmKernels();
  const hasSimd = await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT');
  return describe('wasm', `WebAssembly ${hasSimd === true ? 'with' : 'without'} SIMD on one thread`);
}

/** Includes V8, which computes the cpu backend, and powers and logarithms beside every backend. */
function describe(name: PackagedBackend, device: string): BackendDescription {
  const version = tf.version_core;
  const v8 = process.versions.v8.split('.').slice(0, 2).join('.');
  return { name, version, device, fingerprint: `tfjs ${version}; ${device}; kernels ${KERNELS_REVISION}; V8 ${v8}` };
}
