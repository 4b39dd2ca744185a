/**
 * Loads the native addon and makes it the tfjs backend `tensorflow`: once per process, on its main thread.
 *
 * TensorFlow reads its settings from the environment, some of them when the library is loaded, so all are set here before. They reach it only
 * from the main thread, since a thread of Node has a copy of the environment. Kernels, backend class and addon must be of one version of
 */
import './node-polyfills.ts';
import { isMainThread } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js';
import { NodeJSKernelBackend } from '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js';
import type { TFJSBinding } from '@tensorflow/tfjs-node-gpu/dist/tfjs_binding.js';
import { TrainerError } from '../../../../shared/errors.ts';
import { addonEnvironment, type AddonSettings } from './addon-environment.ts';

/** The name of the tfjs backend that the addon becomes. */
export const NATIVE_BACKEND = 'tensorflow';
/** tfjs picks the backend of the highest priority where none is set; wasm has 2. */
const PRIORITY = 3;
const PACKAGE = '@tensorflow/tfjs-node-gpu';

export interface AddonOptions extends AddonSettings {
  /** Absolute path of tfjs_binding.node, whose libraries lie at ../../deps/lib from its folder. */
  readonly addonPath: string;
}

export interface LoadedAddon {
  readonly binding: TFJSBinding;
  readonly backend: NodeJSKernelBackend;
  /** Of TensorFlow, such as 2.21.0. */
  readonly version: string;
  /** Whether TensorFlow computes on a GPU; false with device `gpu` means that it found none it can use. */
  readonly isUsingGpu: boolean;
  /** The variables that were set, for the log. */
  readonly environment: Readonly<Record<string, string>>;
}

let loaded: { readonly options: AddonOptions; readonly addon: LoadedAddon } | undefined;

/**
 * Does not set the current backend; `tf.setBackend(NATIVE_BACKEND)` does. A second call with the same options returns the first's result.
 * With device `gpu`, the caller decides whether `isUsingGpu: false` is an error or a warning.
 * @throws ENGINE_UNAVAILABLE when the addon cannot be loaded; INTERNAL off the main thread, or for other options than the first
 */
export function loadAddon(options: AddonOptions): LoadedAddon {
  if (loaded !== undefined) {
    if (isSame(loaded.options, options)) return loaded.addon;
    const both = `first ${JSON.stringify(loaded.options)}, now ${JSON.stringify(options)}`;
    throw new TrainerError('INTERNAL', `the native addon was loaded in this process with other options: ${both}`);
  }
  if (!isMainThread) throw new TrainerError('INTERNAL', 'the native addon must be loaded on the main thread');

  const environment = addonEnvironment(options, process.env);
  Object.assign(process.env, environment);
  tf.enableProdMode(); // no banner, no checks of every tensor
  const binding = openLibrary(options.addonPath);
  const backend = new NodeJSKernelBackend(binding, PACKAGE);
  if (!tf.registerBackend(NATIVE_BACKEND, () => backend, PRIORITY))
    throw new TrainerError('INTERNAL', `the tfjs backend ${NATIVE_BACKEND} is registered already, by somebody else`);
  const addon: LoadedAddon = {
    binding,
    backend,
    version: binding.TF_Version,
    isUsingGpu: backend.isUsingGpuDevice,
    environment,
  };
  loaded = { options, addon };
  return addon;
}

function openLibrary(addonPath: string): TFJSBinding {
  const holder: { exports: Partial<TFJSBinding> } = { exports: {} };
  try {
    process.dlopen(holder, addonPath);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `the native engine's addon cannot be loaded: ${reason} (${addonPath}); ` +
        'install the engine anew: exmix engine list, exmix engine remove ID, exmix engine install',
      { cause: error },
    );
  }
  if (isBinding(holder.exports)) return holder.exports;
  throw new TrainerError(
    'ENGINE_UNAVAILABLE',
    `expected the addon of ${PACKAGE}, got a library without its functions: ${addonPath}`,
  );
}

function isBinding(exports: Partial<TFJSBinding>): exports is TFJSBinding {
  return typeof exports.TF_Version === 'string' && typeof exports.executeOp === 'function';
}

function isSame(a: AddonOptions, b: AddonOptions): boolean {
  return (
    a.addonPath === b.addonPath &&
    a.numThreads === b.numThreads &&
    a.device === b.device &&
    a.allowTf32 === b.allowTf32 &&
    a.xla === b.xla
  );
}
