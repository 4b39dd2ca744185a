/** From an engine's name to the engine. */
import type { ModelConfig } from '../../shared/model-config.ts';
import { chooseEngine } from './choose-engine.ts';
import type { Engine } from './engine.ts';
import { createTfjsEngine } from './tfjs-engine.ts';

export interface EngineInit {
  /** One of ENGINE_NAMES. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; T5 trains with 1e-4. */
  readonly zLoss: number;
}

/** @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function createEngine(init: EngineInit): Promise<{ readonly engine: Engine; readonly reason: string }> {
  const { backend, reason } = chooseEngine(init.name);
  return { engine: await createTfjsEngine({ backend, config: init.config, zLoss: init.zLoss }), reason };
}
