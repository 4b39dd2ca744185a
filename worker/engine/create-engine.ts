/** From a run's settings to the engine on this machine; what chooseEngine decides is done here. */
import { TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { chooseEngine } from './choose-engine.ts';
import type { Engine } from './engine.ts';
import { readEngineFacts } from './read-engine-facts.ts';
import { createTfjsEngine } from './tfjs-engine.ts';

export interface EngineInit {
  /** auto, native, wasm or cpu. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; T5 trains with 1e-4. */
  readonly zLoss: number;
  readonly device?: 'auto' | 'cpu' | 'gpu';
  /** CPU threads; 1 unless given. Decides bits. */
  readonly numThreads?: number;
  readonly precision?: 'float32' | 'bfloat16';
  readonly xla?: boolean;
  readonly allowTf32?: boolean;
  /** Place of this process among the workers of its host: which GPU is its own. */
  readonly localRank?: number;
}

export interface CreatedEngine {
  readonly engine: Engine;
  /** A sentence for the log: which engine, and why. */
  readonly reason: string;
  /** Warnings: settings without effect, a GPU that is not used, what would make it faster. */
  readonly notes: readonly string[];
}

/** @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function createEngine(init: EngineInit): Promise<CreatedEngine> {
  const { name, device = 'auto', config, zLoss } = init;
  const facts = await readEngineFacts();
  const choice = chooseEngine({ name, device }, facts);
  if (choice.engine === 'native')
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      'the native engine does not train yet in this version; take --engine wasm',
    );
  const engine = await createTfjsEngine({ backend: choice.engine, config, zLoss });
  const notes = [...choice.notes, ...settingsWithoutEffect(init, choice.engine)];
  return { engine, reason: choice.reason, notes };
}

/** A setting that the engine does not have is told, not dropped in silence. */
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
