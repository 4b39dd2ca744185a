/** Probes the installed native engines: their origin and whether their files are whole. Without one: can one be built here? */
import { findTools } from '../../deploy/engine/prerequisites.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { describeDamage, listInstalledEngines, type EngineFolder } from '../../shared/installed-engine.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';
import { listNames } from '../../shared/list-names.ts';

const CHECK = 'installed';
const INSTALL = 'exmix engine install';

export function judgeInstalled(folder: EngineFolder): Finding {
  const { id, engine, problems, isOutdated } = folder;
  if (isOutdated)
    return {
      check: CHECK,
      status: 'warn',
      detail: `outdated: ${describeDamage(folder)}`,
      advice: `${INSTALL}; exmix engine remove ${id} frees its disk space`,
    };
  if (engine === undefined || problems.length > 0) {
    const advice = `exmix engine remove ${id}, then ${INSTALL}`;
    return { check: CHECK, status: 'fail', detail: `damaged: ${describeDamage(folder)}`, advice };
  }
  const { wheels, compiler, installedAt } = engine.manifest;
  const from = listNames(
    wheels.map(({ file }) => file),
    { most: 1 },
  );
  const detail = `TensorFlow ${engine.tensorflowVersion}, ${engine.flavour}, of ${installedAt.slice(0, 10)}, from ${from}, built by ${compiler}, in ${engine.folder}`;
  return { check: CHECK, status: 'ok', detail };
}

/** @param missing the missing prerequisites of an installation; empty if there are none */
export function judgeNoneInstalled(home: string, missing: string): Finding {
  const detail = `no native engine in ${home}`;
  const advice =
    missing === '' ? `${INSTALL}: several times the speed of wasm` : `${INSTALL}, which first needs: ${missing}`;
  return { check: CHECK, status: 'warn', detail, advice };
}

export const installedEngineProbe: Probe = {
  check: CHECK,
  // It reads every byte: gigabytes for CUDA, perhaps over a network.
  deadlineMs: 180_000,
  run: async ({ home, environment }, signal) => {
    const folders = await listInstalledEngines(home, 'hashes', signal);
    if (folders.length > 0) return folders.map(judgeInstalled);
    const missing = await findTools({ needsPip: true, environment, signal }).then(
      () => '',
      (thrown: unknown) => oneLine(toTrainerError(thrown).message),
    );
    return [judgeNoneInstalled(home, missing)];
  },
};

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/gu, '; ');
}
