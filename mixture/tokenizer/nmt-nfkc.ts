/**
 * T5's normalization rules, `nmt_nfkc`, for models that are trained here: NFKC, control characters dropped, all spaces made one kind.
 *
 * `nmt-nfkc.charsmap` is the precompiled_charsmap that SentencePiece puts into every such model (google/sentencepiece, Apache-2.0).
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
