/** Which engine a worker gets, and why. */
import { TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import type { Engine } from './engine.ts';
import type { TfjsBackend } from './tfjs-backend.ts';
import { createTfjsEngine } from './tfjs-engine.ts';

export const ENGINE_NAMES = ['auto', 'wasm', 'cpu', 'tensorflow'] as const;

export type EngineName = (typeof ENGINE_NAMES)[number];

export interface EngineChoice {
  readonly backend: TfjsBackend;
  /** A sentence for the log. */
  readonly reason: string;
}

/** @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export function chooseEngine(name: string): EngineChoice {
  switch (name) {
    case 'auto':
      return { backend: 'wasm', reason: 'engine wasm: the fastest that this version of exmix has' };
    case 'wasm':
    case 'cpu':
      return { backend: name, reason: `engine ${name}: asked for by name` };
    case 'tensorflow':
      throw new TrainerError(
        'ENGINE_UNAVAILABLE',
        'the engine tensorflow is not in this version of exmix; use --engine wasm, or auto',
      );
    default: {
      const near = nearestNames(name, ENGINE_NAMES);
      const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `known: ${ENGINE_NAMES.join(', ')}`;
      throw new TrainerError('NAME_UNKNOWN', `there is no engine ${name}; ${hint}`);
    }
  }
}

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
