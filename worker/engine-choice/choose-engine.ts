/**
 * Which engine and device a run's setting means on this machine, why, and what must not go unsaid: a decision from facts, without loading
 * any engine. Assumes that the facts are those of the host that will compute.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { InstalledEngine } from '../../shared/installed-engine.ts';
import { nearestNames } from '../../shared/nearest-names.ts';

const ENGINE_NAMES = ['auto', 'native', 'wasm', 'cpu'] as const;
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
  /** Sentences about installed engines that were passed over. */
  readonly damaged: readonly string[];
  /** GPUs that the system shows and CUDA_VISIBLE_DEVICES does not hide. */
  readonly numGpus: number;
  /** How that is known, for messages. */
  readonly gpuEvidence: string;
}

export type EngineChoice = {
  /** A sentence for the log: why this one, and what would make it faster. */
  readonly reason: string;
  /** Warnings: what is damaged or unused. */
  readonly notes: readonly string[];
} & (
  | { readonly engine: 'wasm' | 'cpu'; readonly device: 'cpu' }
  | {
      readonly engine: 'native';
      readonly device: 'cpu' | 'gpu';
      readonly installed: InstalledEngine;
      /** The engine must end, and not go on with the CPU, where the GPU turns out not to be used. */
      readonly isGpuRequired: boolean;
    }
);

const INSTALL = 'exmix engine install';
const INSTALL_CUDA = `${INSTALL} --flavour cuda`;

/** Refuses a name that no machine knows. @throws NAME_UNKNOWN */
export function checkEngineName(name: string): asserts name is EngineName {
  if ((ENGINE_NAMES as readonly string[]).includes(name)) return;
  const near = nearestNames(name, ENGINE_NAMES);
  const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `known: ${ENGINE_NAMES.join(', ')}`;
  throw new TrainerError('NAME_UNKNOWN', `there is no engine ${name}; ${hint}`);
}

/** @throws NAME_UNKNOWN; ENGINE_UNAVAILABLE where engine or device was asked for and is not there */
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

/** Nothing where the CPU was asked for. */
function unusedGpu(device: EngineRequest['device'], facts: EngineFacts, whatToDo: string): string[] {
  if (device === 'cpu' || facts.numGpus === 0) return [];
  return [
    `THE GPU IS NOT USED: this host shows ${facts.numGpus} (${facts.gpuEvidence}), this engine computes on the CPU; ` +
      `${whatToDo}, or say --device cpu`,
  ];
}
