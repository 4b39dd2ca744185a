/** Which engine a name means, and why: without loading any, so that a coordinator can check a name. */
import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import type { TfjsBackend } from './tfjs-backend.ts';

const ENGINE_NAMES = ['auto', 'wasm', 'cpu', 'tensorflow'] as const;

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
