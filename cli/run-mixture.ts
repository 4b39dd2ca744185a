/** Loads the mixture that a run's config names, and finds its prepared folder. */
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { Mixture } from '../mixture/tasks/task.ts';
import type { RunConfig } from '../shared/config/schema.ts';

export interface RunMixture {
  readonly mixture: Mixture;
  /** A folder or a URL; may be missing. */
  readonly prepared: string;
}

/**
 * @param namedBy the stored config that names the mixture, where the user named none (`storedConfigOf`)
 * @throws the errors of loadMixture
 */
export function loadRunMixture(
  { mixture: settings, featureLengths }: RunConfig,
  namedBy: string | undefined,
): RunMixture {
  const { path, tokenizer, given, tasks, prepared } = settings;
  const mixture = loadMixture(path, {
    ...(tokenizer === undefined ? {} : { tokenizer }),
    ...(given === undefined ? {} : { given }),
    ...(tasks === undefined ? {} : { tasks }),
    ...(namedBy === undefined ? {} : { namedBy }),
  });
  return { mixture, prepared: prepared ?? preparedFolder({ mixture, featureLengths }) };
}
