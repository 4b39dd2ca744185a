/** The id of an engine: names everything that decides what it computes, so equal ids are equal engines. Pure. */
import { createHash } from 'node:crypto';
import { ENGINE_FORMAT, type EngineFlavour, type EngineManifest } from '../../shared/installed-engine.ts';
import { NAPI_VERSION } from './build-addon.ts';
import type { Host } from './host.ts';

export interface EngineIdentity {
  readonly flavour: EngineFlavour;
  readonly version: string;
  readonly wheels: EngineManifest['wheels'];
  /** hashRecipes() */
  readonly recipe: string;
  readonly host: Host;
}

/** `cpu-2.21.0-3f29c0a1b2d4`: the order and the file names of the wheels do not matter, their content does. */
export function engineId({ flavour, version, wheels, recipe, host }: EngineIdentity): string {
  const records = wheels.map(({ recordSha256 }) => recordSha256).sort();
  const content = JSON.stringify([ENGINE_FORMAT, NAPI_VERSION, host.platform, host.arch, recipe, records]);
  return `${flavour}-${version}-${createHash('sha256').update(content).digest('hex').slice(0, 12)}`;
}
