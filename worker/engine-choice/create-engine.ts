/** Creates the engine that chooseEngine has chosen from a run's settings and this host. Loads the code of that engine only. */
import { readFile } from 'node:fs/promises';
import type { ModelConfig } from '../../shared/model-config.ts';
import { ADAFACTOR, type OptimizerSettings } from '../../shared/optimizer.ts';
import { parseCpuInfo } from '../machine/cpu-info.ts';
import { findGpus, gpuMemoryBytes } from '../machine/gpus.ts';
import { readMemory } from '../machine/memory-info.ts';
import { deviceOfWorker } from '../machine/visible-device.ts';
import { chooseEngine, type EngineChoice, type EngineFacts } from './choose-engine.ts';
import type { DropoutSettings } from '../model/dropout.ts';
import { WASM_MEMORY_BYTES, type Engine } from '../engine/engine.ts';
import { withMemoryAdvice } from './memory-advice.ts';
import { readEngineFacts } from './read-engine-facts.ts';

export interface EngineInit {
  /** auto, native, wasm or cpu. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; T5 trains with 1e-4. */
  readonly zLoss: number;
  /** Adafactor unless given. */
  readonly optimizer?: OptimizerSettings;
  /** Of training steps; none unless given. */
  readonly dropout?: DropoutSettings;
  readonly device?: 'auto' | 'cpu' | 'gpu';
  /** CPU threads; 1 unless given. Decides bits. */
  readonly numThreads?: number;
  readonly precision?: 'float32' | 'bfloat16';
  readonly xla?: boolean;
  readonly allowTf32?: boolean;
  /** Index of this process among the workers of its host: selects its GPU. */
  readonly localRank?: number;
  /** Receives later warnings: a recorded graph that is refused. */
  readonly onWarning?: (sentence: string) => void;
}

export interface CreatedEngine {
  readonly engine: Engine;
  /** A sentence for the log: which engine, why, and which one would be faster. */
  readonly reason: string;
  /** Warnings: settings without effect, a GPU that is not used, a damaged installation. */
  readonly notes: readonly string[];
}

/** @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function createEngine(init: EngineInit): Promise<CreatedEngine> {
  const { name, device = 'auto', config, zLoss, optimizer = ADAFACTOR, dropout } = init;
  const facts = await readEngineFacts();
  const choice = chooseEngine({ name, device }, facts);
  if (choice.engine === 'native') return createNative(init, choice, facts);
  const { createTfjsEngine } = await import('../engine/tfjs-engine.ts');
  const plain = await createTfjsEngine({ backend: choice.engine, config, zLoss, optimizer, dropout });
  const availableBytes = () => (choice.engine === 'wasm' ? Promise.resolve(WASM_MEMORY_BYTES) : availableMemory());
  return {
    engine: withMemoryAdvice(plain, { config, optimizer: optimizer.kind, retention: 'eager', availableBytes }),
    reason: choice.reason,
    notes: [...choice.notes, ...settingsWithoutEffect(init, choice.engine)],
  };
}

/** This process's GPU, once assigned: CUDA_VISIBLE_DEVICES then names it alone. */
let ownDevice: string | undefined;

async function createNative(
  init: EngineInit,
  choice: Extract<EngineChoice, { engine: 'native' }>,
  facts: EngineFacts,
): Promise<CreatedEngine> {
  const { config, zLoss, optimizer = ADAFACTOR, dropout } = init;
  const { numThreads = 1, precision = 'float32', xla = false, allowTf32 = false } = init;
  const { installed, device, isGpuRequired } = choice;
  if (device === 'gpu') {
    ownDevice ??= deviceOfWorker({
      visible: process.env['CUDA_VISIBLE_DEVICES'],
      numGpus: facts.numGpus,
      localRank: init.localRank ?? 0,
    });
    // CUDA reads it when the library is loaded.
    process.env['CUDA_VISIBLE_DEVICES'] = ownDevice;
  }
  const { createNativeEngine } = await import('../engine/native/create-native-engine.ts');
  const settings = { numThreads, device, isGpuRequired, precision, xla, allowTf32 };
  const onWarning = init.onWarning ?? (() => undefined);
  const native = createNativeEngine({ installed, config, zLoss, optimizer, dropout, ...settings, onWarning });
  const isOnGpu = native.description.device.startsWith('GPU');
  const hardware = isOnGpu ? await gpuModel() : await cpuModel();
  const description = { ...native.description, fingerprint: `${native.description.fingerprint}; ${hardware}` };
  const availableBytes = async () =>
    (isOnGpu && ownDevice !== undefined ? await gpuMemoryBytes(ownDevice) : undefined) ?? availableMemory();
  const advice = { config, optimizer: optimizer.kind, retention: 'recorded', availableBytes, description } as const;
  return {
    engine: withMemoryAdvice(native, advice),
    reason: isOnGpu ? `${choice.reason}; device ${ownDevice ?? '?'}` : choice.reason,
    notes: [...choice.notes, ...(device === 'gpu' && !isOnGpu ? [gpuOfNoUse(facts)] : [])],
  };
}

/** Decides bits: TensorFlow chooses its kernels, and their order of additions, by the CPU's instructions and caches. */
async function cpuModel(): Promise<string> {
  const { model, vectorFlags } = parseCpuInfo(await readFile('/proc/cpuinfo', 'utf8').catch(() => ''));
  return `${model === '' ? process.arch : model} ${vectorFlags.at(-1) ?? ''}`.trim();
}

async function gpuModel(): Promise<string> {
  return [...new Set((await findGpus()).models)].join(', ') || 'model not told';
}

async function availableMemory(): Promise<number> {
  const { totalBytes, limitBytes } = await readMemory();
  return limitBytes ?? totalBytes;
}

function gpuOfNoUse({ numGpus, gpuEvidence }: EngineFacts): string {
  return (
    `THE GPU IS NOT USED: this host shows ${numGpus} (${gpuEvidence}), but TensorFlow found none that it can use; the driver is too old ` +
    'for the installed CUDA, or a library of it is missing: exmix doctor, or say --device cpu'
  );
}

/** Settings that the engine does not have, as warnings. */
function settingsWithoutEffect(init: EngineInit, engine: string): string[] {
  const { numThreads = 1, precision = 'float32', xla = false, allowTf32 = false } = init;
  const ignored = [
    ...(numThreads === 1 ? [] : [`threads ${numThreads}`]),
    ...(precision === 'float32' ? [] : [`precision ${precision}`]),
    ...(xla ? ['xla'] : []),
    ...(allowTf32 ? ['allowTf32'] : []),
  ];
  if (ignored.length === 0) return [];
  return [`compute: ${ignored.join(', ')} without effect: only the native engine has it, this is ${engine}`];
}
