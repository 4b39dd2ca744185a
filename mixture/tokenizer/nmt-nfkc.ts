/**
 * T5's normalization rules, `nmt_nfkc`, for models that we train: NFKC, no control characters, one kind of space.
 *
 * `nmt-nfkc.charsmap` is the precompiled_charsmap that SentencePiece writes into every such model
 * (google/sentencepiece, Apache-2.0).
 */
import { readFileSync } from 'node:fs';
import { packageFile } from '../../shared/package-files.ts';
import type { NormalizerSpec } from './unigram-model.ts';

export function loadNmtNfkc(): NormalizerSpec {
  return {
    name: 'nmt_nfkc',
    charsmap: new Uint8Array(readFileSync(packageFile('mixture/tokenizer/nmt-nfkc.charsmap'))),
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  };
}
