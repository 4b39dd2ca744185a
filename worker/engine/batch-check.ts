/** Refuses a batch that does not fit the model, before any kernel reads memory by its ids. */
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { Batch, GenerationInputs } from './engine.ts';

/** @throws CONFIG_INVALID for a token id outside the vocabulary; INTERNAL for arrays of wrong length */
export function checkBatch(batch: Batch, vocabSize: number): void {
  const { numRows, inputsLength, targetsLength } = batch;
  const lengths: [keyof Batch, Int32Array, number][] = [
    ['encoderInputIds', batch.encoderInputIds, inputsLength],
    ['encoderSegmentIds', batch.encoderSegmentIds, inputsLength],
    ['decoderInputIds', batch.decoderInputIds, targetsLength],
    ['decoderSegmentIds', batch.decoderSegmentIds, targetsLength],
    ['labels', batch.labels, targetsLength],
  ];
  for (const [name, values, length] of lengths)
    assertInvariant(values.length === numRows * length, `${name}: ${values.length} values for [${numRows}, ${length}]`);

  checkIds('encoderInputIds', batch.encoderInputIds, 0, vocabSize);
  checkIds('decoderInputIds', batch.decoderInputIds, 0, vocabSize);
  checkIds('labels', batch.labels, -Infinity, vocabSize);
}

/** @throws as checkBatch does */
export function checkGenerationInputs(inputs: GenerationInputs, vocabSize: number): void {
  const { numRows, inputsLength, encoderInputIds, encoderSegmentIds } = inputs;
  for (const [name, { length }] of Object.entries({ encoderInputIds, encoderSegmentIds }))
    assertInvariant(length === numRows * inputsLength, `${name}: ${length} values for [${numRows}, ${inputsLength}]`);
  checkIds('encoderInputIds', encoderInputIds, 0, vocabSize);
}

function checkIds(name: keyof Batch, values: Int32Array, lowest: number, vocabSize: number): void {
  const position = values.findIndex((id) => id >= vocabSize || id < lowest);
  if (position >= 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `${name}[${position}] is token ${values[position]!}, but the model's vocabulary has ${vocabSize} tokens; ` +
        'set vocabSize of the model to at least the number of ids of the tokenizer',
    );
}
