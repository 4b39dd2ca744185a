/** Checks the folder of `--init`: every byte of the model that a run would begin with is read, and its tokenizer is loaded. */
import { findTokenizer } from '../../mixture/tokenizer/find-tokenizer.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import type { InitSettings } from '../../shared/config/schema.ts';
import { readInitialState } from '../../worker/compute/initial-state.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

/** Reading and checking a model may take this long, ms. */
const MODEL_DEADLINE_MS = 1_800_000;

/** @param folder a checkpoint, or a T5 of Hugging Face @param optimizer keep: its optimizer's state is read too */
export function modelProbe(folder: string, optimizer: InitSettings['optimizer']): Probe {
  return {
    check: 'model',
    deadlineMs: MODEL_DEADLINE_MS,
    run: async (_, signal) => {
      const { config, parameters, optimizer: slots, digests } = await readInitialState(folder, optimizer, signal);
      const numParameters = sizeOf(parameters);
      const numSlots = slots === 'zero' ? 0 : sizeOf(slots);
      const kept = slots === 'zero' ? 'fresh optimizer' : `${numSlots} numbers of its optimizer's state`;
      const detail =
        `${folder}: T5 with ${config.feedForward}, ${config.numLayers} + ${config.numDecoderLayers} blocks, ` +
        `${numParameters} parameters with digest ${digests.paramDigest!.slice(0, 12)}, ${kept}`;
      const figures = { numParameters, numSlots };
      return [{ check: 'model', status: 'ok', detail, figures }, await judgeTokenizer(folder, config.vocabSize)];
    },
  };
}

async function judgeTokenizer(folder: string, vocabSize: number): Promise<Finding> {
  const path = await findTokenizer(folder);
  const check = 'tokenizer';
  if (path === undefined)
    return {
      check,
      status: 'warn',
      detail: `${folder} has none that exmix reads`,
      advice: 'give the one that the model was trained with: --set mixture.tokenizer=FILE',
    };
  const tokenizer = await loadTokenizer(path);
  const detail = `${path}: ${tokenizer.vocabSize} ids, the model has ${vocabSize}`;
  const figures = { numIds: tokenizer.vocabSize, vocabSize };
  if (tokenizer.vocabSize <= vocabSize) return { check, status: 'ok', detail, figures };
  return { check, status: 'fail', detail, figures, advice: "it is another model's tokenizer: copy the right one" };
}

function sizeOf(tensors: ReadonlyMap<string, Float32Array>): number {
  return [...tensors.values()].reduce((sum, { length }) => sum + length, 0);
}
