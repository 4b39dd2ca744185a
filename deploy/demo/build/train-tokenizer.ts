/**
 * Duty: trains the demo's vocabulary on the demo's data. `npx tsx deploy/demo/build/train-tokenizer.ts [file]` writes
 * `file`, by default tokenizer/spiece.model. Only the seeded sample is random, so the same data gives the same bytes.
 */

import path from 'node:path';
import { writeSentencePieceModel } from '../../../mixture/tokenizer/sentencepiece-file.ts';
import { trainUnigram } from '../../../mixture/tokenizer/training/train-unigram.ts';
import { collectTrainingText } from './training-text.ts';

/** With 100 extra ids this makes 4,096 embedding rows, a multiple of 128. */
const NUM_PIECES = 3_996;
/** Covers all letters of Spanish and of the emoji names, down to those that occur ten times in a million characters. */
const CHARACTER_COVERAGE = 0.99999;

const demoFolder = path.resolve(import.meta.dirname, '..');
const modelFile = path.resolve(process.argv[2] ?? path.join(demoFolder, 'tokenizer/spiece.model'));

const lines = collectTrainingText(path.join(demoFolder, 'mixture.yaml'));
console.log(`${lines.length} lines, ${lines.reduce((sum, line) => sum + line.length, 0)} characters`);
const model = trainUnigram(lines, {
  vocabSize: NUM_PIECES,
  characterCoverage: CHARACTER_COVERAGE,
  onPass: ({ numPieces, loss }) => console.log(`${numPieces} pieces, ${loss.toFixed(4)} nats per word`),
});
await writeSentencePieceModel(modelFile, model);
console.log(`${modelFile}: ${model.pieces.length} pieces`);
