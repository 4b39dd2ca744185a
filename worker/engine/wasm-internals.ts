/**
 * Internals of @tensorflow/tfjs-backend-wasm 4.22.0 that our kernels use, checked before use. Its allocator is guarded: an allocation beyond
 * 4 GiB returns address 0 without an error, and kernels would write there.
 */
import * as tf from '@tensorflow/tfjs';
import type { DataType, TensorInfo } from '@tensorflow/tfjs';
import { TrainerError } from '../../shared/errors.ts';
import { WASM_MEMORY_BYTES } from './engine.ts';

/** The used part of BackendWasm beyond its public interface. */
export interface WasmInternals {
  readonly dataIdMap: { get(dataId: object): { readonly id: number; readonly memoryOffset: number } };
  makeOutput(shape: number[], dtype: DataType): TensorInfo;
  disposeData(dataId: object): boolean;
  incRef(dataId: object): void;
  readonly wasm: {
    _malloc(numBytes: number): number;
    _free(address: number): void;
    readonly tfjs: {
      registerTensor(id: number, size: number, memoryOffset: number): void;
      disposeData(id: number): void;
    };
    /** Replaced when the memory grows: never keep it across an allocation. */
    readonly HEAPF32: Float32Array;
    readonly HEAP32: Int32Array;
    cwrap(name: string, result: null, parameters: readonly string[]): (...args: (number | Uint8Array)[]) => void;
  };
}

/**
 * The internals of the current backend, its allocator guarded.
 * @throws ENGINE_UNAVAILABLE for a backend of another version
 */
export function openInternals(): WasmInternals {
  const candidate = tf.backend() as unknown as Partial<WasmInternals>;
  const isExpected =
    typeof candidate.makeOutput === 'function' &&
    typeof candidate.incRef === 'function' &&
    typeof candidate.disposeData === 'function' &&
    typeof candidate.dataIdMap?.get === 'function' &&
    typeof candidate.wasm?.cwrap === 'function' &&
    typeof candidate.wasm._malloc === 'function' &&
    typeof candidate.wasm._free === 'function' &&
    typeof candidate.wasm.tfjs.registerTensor === 'function' &&
    candidate.wasm.HEAPF32 instanceof Float32Array;
  if (!isExpected)
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `the wasm kernels are written for the wasm backend of tfjs 4.22.0, found tfjs ${tf.version_core} with other internals; ` +
        'run npm ci to install the pinned version',
    );
  const internals = candidate as WasmInternals;
  const { wasm } = internals;
  wasm._free(wasm._malloc(8)); // Emscripten's stubs replace themselves at their first call
  wasm._malloc = guardAllocator(wasm._malloc.bind(wasm), wasm._free.bind(wasm));
  return internals;
}

/**
 * An allocator that throws where the memory of WebAssembly ends, instead of returning 0. It keeps the last 256 MiB free for XNNPACK's own
 * allocations, whose failures nobody reports.
 * @param allocate returns an address, perhaps as a signed number, or 0
 */
export function guardAllocator(
  allocate: (numBytes: number) => number,
  free: (address: number) => void,
): (numBytes: number) => number {
  return (numBytes) => {
    const address = allocate(numBytes) >>> 0;
    if (address !== 0 && address + numBytes <= WASM_MEMORY_BYTES) return address;
    if (address !== 0) free(address);
    throw new TrainerError(
      'ENGINE_OUT_OF_MEMORY',
      `no room for ${numBytes} B more in the 4 GiB that the wasm engine can have; take fewer rows a microbatch or a smaller model`,
    );
  };
}

/** Byte address in the wasm memory. */
export function addressOf(internals: WasmInternals, tensor: TensorInfo): number {
  return internals.dataIdMap.get(tensor.dataId).memoryOffset;
}
