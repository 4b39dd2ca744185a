/**
 * Chooses engine and device from a run's setting and facts of this host, with the reason and the warnings. Loads no engine. Pure. Assumes that
 * the facts are those of the host that computes.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { InstalledEngine } from '../../shared/installed-engine.ts';
import { nearestNames } from '../../shared/nearest-names.ts';

export const ENGINE_NAMES = ['auto', 'native', 'wasm', 'cpu'] as const;
type EngineName = (typeof ENGINE_NAMES)[number];

export interface EngineRequest {
  /** One of ENGINE_NAMES. */
  readonly name: string;
  /** auto: a GPU where one can be used. */
  readonly device: 'auto' | 'cpu' | 'gpu';
}

export interface EngineFacts {
  /** The native engine that would be used. */
  readonly installed: InstalledEngine | undefined;
  /** Sentences about installed engines that cannot be used. */
  readonly damaged: readonly string[];
  /** GPUs that the system shows and CUDA_VISIBLE_DEVICES does not hide. */
  readonly numGpus: number;
  /** Where the count comes from, for messages. */
  readonly gpuEvidence: string;
}

export type EngineChoice = {
  /** A sentence for the log: why this engine, and which one would be faster. */
  readonly reason: string;
  /** Warnings: a damaged installation, an unused GPU. */
  readonly notes: readonly string[];
} & (
  | { readonly engine: 'wasm' | 'cpu'; readonly device: 'cpu' }
  | {
      readonly engine: 'native';
      readonly device: 'cpu' | 'gpu';
      readonly installed: InstalledEngine;
      /** The engine must fail, and not continue on the CPU, when TensorFlow cannot use the GPU. */
      readonly isGpuRequired: boolean;
    }
);

const INSTALL = 'exmix engine install';
const INSTALL_CUDA = `${INSTALL} --flavour cuda`;

/** Refuses an unknown engine name. @throws NAME_UNKNOWN */
export function checkEngineName(name: string): asserts name is EngineName {
  if ((ENGINE_NAMES as readonly string[]).includes(name)) return;
  const near = nearestNames(name, ENGINE_NAMES);
  const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `known: ${ENGINE_NAMES.join(', ')}`;
  throw new TrainerError('NAME_UNKNOWN', `there is no engine ${name}; ${hint}`);
}

/** @throws NAME_UNKNOWN; ENGINE_UNAVAILABLE when the requested engine or device is missing */
export function chooseEngine(request: EngineRequest, facts: EngineFacts): EngineChoice {
  const { name, device } = request;
  checkEngineName(name);
  const { installed, damaged } = facts;
  const damage = damaged.map((sentence) => `installed engine passed over: ${sentence}`);
  switch (name) {
    case 'native':
      return chooseNative(installed ?? refuseNative(damaged), device, facts, ['asked for by name', damage]);
    case 'auto':
      if (installed !== undefined) return chooseNative(installed, device, facts, ['it is installed', damage]);
      if (device === 'gpu') throw gpuUnavailable(`no native engine is installed: ${INSTALL_CUDA}`);
      return {
        engine: 'wasm',
        device: 'cpu',
        reason: `engine wasm: ${damaged.length > 0 ? 'the installed native engine cannot be used' : 'no native engine is installed'}; ${INSTALL} brings it, several times as fast`,
        notes: [...damage, ...unusedGpu(device, facts, INSTALL_CUDA)],
      };
    case 'wasm':
    case 'cpu':
      if (device === 'gpu') throw gpuUnavailable(`the engine ${name} computes on the CPU: take --engine native`);
      return {
        engine: name,
        device: 'cpu',
        reason: `engine ${name}: asked for by name${installed === undefined ? '' : '; the native engine is installed too'}`,
        notes: unusedGpu(device, facts, installed === undefined ? INSTALL_CUDA : '--engine native'),
      };
  }
}

function chooseNative(
  installed: InstalledEngine,
  device: EngineRequest['device'],
  facts: EngineFacts,
  [why, damage]: readonly [string, readonly string[]],
): EngineChoice {
  const { flavour, tensorflowVersion } = installed;
  const native = `engine native (TensorFlow ${tensorflowVersion}, ${flavour})`;
  const canUseGpu = flavour === 'cuda' && facts.numGpus > 0;
  if (device === 'gpu' && !canUseGpu)
    throw gpuUnavailable(
      facts.numGpus === 0
        ? `no GPU is visible (${facts.gpuEvidence}); check the driver, the container's devices and CUDA_VISIBLE_DEVICES`
        : `the installed engine is of flavour ${flavour}: ${INSTALL_CUDA}`,
    );
  if (device !== 'cpu' && canUseGpu)
    return {
      engine: 'native',
      device: 'gpu',
      installed,
      isGpuRequired: device === 'gpu',
      reason: `${native} on a GPU: ${why}`,
      notes: damage,
    };
  return {
    engine: 'native',
    device: 'cpu',
    installed,
    isGpuRequired: false,
    reason: `${native} on the CPU: ${why}`,
    notes: [...damage, ...unusedGpu(device, facts, INSTALL_CUDA)],
  };
}

function refuseNative(damaged: readonly string[]): never {
  const why = damaged.length === 0 ? 'is not installed' : `cannot be used: ${damaged.join('; ')}`;
  throw new TrainerError('ENGINE_UNAVAILABLE', `the native engine ${why}; run ${INSTALL}, or take --engine wasm`);
}

function gpuUnavailable(why: string): TrainerError {
  return new TrainerError('ENGINE_UNAVAILABLE', `--device gpu: ${why}`);
}

/** Empty when the user asked for the CPU. */
function unusedGpu(device: EngineRequest['device'], facts: EngineFacts, whatToDo: string): string[] {
  if (device === 'cpu' || facts.numGpus === 0) return [];
  return [
    `THE GPU IS NOT USED: this host shows ${facts.numGpus} (${facts.gpuEvidence}), this engine computes on the CPU; ` +
      `${whatToDo}, or say --device cpu`,
  ];
}
