/** The mixture that a run's config names, and where it is prepared. */
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { Mixture } from '../mixture/tasks/task.ts';
import type { RunConfig } from '../shared/config/schema.ts';

export interface RunMixture {
  readonly mixture: Mixture;
  /** A folder or a URL, whether or not it is there. */
  readonly prepared: string;
}

/** @throws what loadMixture throws */
export function loadRunMixture({ mixture: settings, featureLengths }: RunConfig): RunMixture {
  const { path, tokenizer, given, tasks, prepared } = settings;
  const mixture = loadMixture(path, {
    ...(tokenizer === undefined ? {} : { tokenizer }),
    ...(given === undefined ? {} : { given }),
    ...(tasks === undefined ? {} : { tasks }),
  });
  return { mixture, prepared: prepared ?? preparedFolder({ mixture, featureLengths }) };
}
