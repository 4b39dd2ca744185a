/** The text of an example as the model read it: token ids from the run's prepared mixture, corrupted as in training, decoded. */
import { withDenoisers } from '../../mixture/feed/denoised-mixture.ts';
import { openPreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { readPlannedExample } from '../../mixture/feed/planned-examples.ts';
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { loadConfig } from '../../shared/config/load-config.ts';
import { denoisersOf } from '../../shared/config/schema.ts';
import { loadRunMixture } from '../run-mixture.ts';

export interface ExampleText {
  readonly inputs: string;
  readonly targets: string;
}

export interface ExampleTexts {
  textOf(example: PlannedExample): Promise<ExampleText>;
  close(): void;
}

/**
 * @param expected from the ledger
 * @param trustModules run the TypeScript that only the run folder names
 * @throws MIXTURE_MISMATCH where the prepared mixture is not that of the run; MODULE_NOT_TRUSTED, PATH_UNUSABLE, SHARD_CORRUPT
 */
export async function openExampleTexts(
  runFolder: string,
  expected: { readonly mixtureHash: string; readonly seed: number },
  trustModules: boolean,
): Promise<ExampleTexts> {
  const stored = runPaths(runFolder).config;
  const config = await loadConfig(stored, []);
  const { mixture, prepared: location } = loadRunMixture(config, trustModules ? undefined : stored);
  const opened = await openPreparedMixture(location, { expectedHash: expected.mixtureHash });
  const prepared = withDenoisers(opened, denoisersOf(config));
  const { numExtraIds } = prepared.tokenizer;
  const tokenizer = await loadTokenizer(mixture.tokenizerPath, { numExtraIds });
  return {
    textOf: async (example) => {
      const { inputs, targets } = await readPlannedExample(prepared, example, expected.seed);
      return { inputs: tokenizer.decode(inputs), targets: tokenizer.decode(targets) };
    },
    close: () => prepared.close(),
  };
}
