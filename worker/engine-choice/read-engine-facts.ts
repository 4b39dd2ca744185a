/** Reads the facts of this host for chooseEngine: the installed native engine and the GPUs. Loads no engine. */
import { exmixHome } from '../../shared/exmix-home.ts';
import { describeDamage, searchInstalledEngine } from '../../shared/installed-engine.ts';
import { findGpus } from '../machine/gpus.ts';
import { visibleDevices } from '../machine/visible-device.ts';
import type { EngineFacts } from './choose-engine.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws PATH_UNUSABLE for an unreadable home of exmix */
export async function readEngineFacts(environment: Environment = process.env, root = '/'): Promise<EngineFacts> {
  const { found, damaged } = await searchInstalledEngine(exmixHome(environment));
  const { count, evidence } = await findGpus(root);
  const visible = environment['CUDA_VISIBLE_DEVICES'];
  const numGpus = visibleDevices({ visible, numGpus: count }).length;
  const hidden = numGpus < count ? `, CUDA_VISIBLE_DEVICES is ${JSON.stringify(visible)}` : '';
  return { installed: found, damaged: damaged.map(describeDamage), numGpus, gpuEvidence: evidence + hidden };
}
