/**
 * The compute of one worker behind one interface: forward, backward, optimizer. Callers see no tensor of any library; inputs and outputs are
 * plain arrays, row-major, float32 or int32.
 *
 * Assumptions of every implementation: one call at a time; shapes of batches are static (a run has few); the same calls give the same bits
 * for the same `description.fingerprint`.
 */
import type { DecodingSession } from '../../evaluation/decoding/decode-batch.ts';
import type { OptimizerSlot } from '../model/optimizer-slots.ts';
import type { ParameterSpec } from '../model/parameters.ts';

/** What the wasm engine may allocate: 4 GiB without the last 256 MiB, which XNNPACK's own allocations need. */
export const WASM_MEMORY_BYTES = 2 ** 32 - 2 ** 28;

/** One microbatch of packed rows. Segment ids are 1, 2, … within a row and 0 at padding. */
export interface Batch {
  readonly numRows: number;
  readonly inputsLength: number;
  readonly targetsLength: number;
  /** [numRows, inputsLength] */
  readonly encoderInputIds: Int32Array;
  /** [numRows, inputsLength] */
  readonly encoderSegmentIds: Int32Array;
  /** [numRows, targetsLength]; each segment starts with 0 */
  readonly decoderInputIds: Int32Array;
  /** [numRows, targetsLength] */
  readonly decoderSegmentIds: Int32Array;
  /** [numRows, targetsLength]; a position carries loss where its decoder segment is above 0 and its label is not negative */
  readonly labels: Int32Array;
}

/** The encoder's side of a batch, for generation. */
export type GenerationInputs = Pick<Batch, 'numRows' | 'inputsLength' | 'encoderInputIds' | 'encoderSegmentIds'>;

/** Losses of each target position, [numRows, targetsLength], 0 where a position carries none. */
export interface StepOutput {
  readonly crossEntropy: Float32Array;
  /** The z-loss with its coefficient. */
  readonly zLoss: Float32Array;
}

/** What the model makes of given targets, without gradients. */
export interface ScoreOutput extends StepOutput {
  /** [numRows, targetsLength]: 1 where a position carries loss and its label is the likeliest token, of equal ones the smallest id; else 0 */
  readonly isRight: Uint8Array;
}

export interface ForwardOutput {
  /** [numRows, inputsLength, dModel], after the final norm */
  readonly encoderOutput: Float32Array;
  /** [numRows, targetsLength, vocabSize] */
  readonly logits: Float32Array;
}

/** A decoder that holds keys and values of a batch in the engine. */
export interface Decoding extends DecodingSession {
  dispose(): void;
}

export interface EngineDescription {
  readonly name: string;
  /** Of the tensor library. */
  readonly version: string;
  /** The device in words. */
  readonly device: string;
  /** Equal fingerprints give equal bits; recorded with a run and compared among its workers. */
  readonly fingerprint: string;
}

export interface AdafactorUpdate {
  /** From 0. */
  readonly step: number;
  readonly learningRate: number;
  /** 1 / target tokens of the step: turns the gradient of the summed loss into that of the mean. */
  readonly gradientScale: number;
}

export interface Engine {
  readonly description: EngineDescription;
  /** In the order of the forward pass; a parameter's index here is its number everywhere. */
  readonly parameters: readonly ParameterSpec[];
  readonly optimizerSlots: readonly OptimizerSlot[];

  /**
   * Copies all parameters and the optimizer's state into the engine.
   * @throws CHECKPOINT_MISMATCH for a missing or unknown name, or another size
   */
  load(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array> | 'zero',
  ): Promise<void>;

  /**
   * Forward and backward pass of one microbatch. Calls `onGradient` once for each parameter, last parameter first, with the gradient of
   * the SUM of all losses; the view is valid only during the call.
   * @throws CONFIG_INVALID for a token id that the model does not have; TENSOR_LEAK
   */
  step(batch: Batch, onGradient: (parameter: number, gradient: Float32Array) => void): Promise<StepOutput>;

  /**
   * One Adafactor update.
   * @param gradients the summed gradient of the step for each parameter, in their order; only read
   */
  apply(gradients: readonly Float32Array[], update: AdafactorUpdate): Promise<void>;

  /** Fills the given arrays; names may be a subset. @throws CHECKPOINT_MISMATCH as load does */
  readBack(parameters: ReadonlyMap<string, Float32Array>, optimizer: ReadonlyMap<string, Float32Array>): Promise<void>;

  /** Forward pass alone. */
  forward(batch: Batch): Promise<ForwardOutput>;

  /** Losses and hits of each target position, without gradients. @throws as step does */
  score(batch: Batch): Promise<ScoreOutput>;

  /**
   * Runs the encoder and opens a decoder over its output (evaluation/decoding). Each row is one example; its segment ids are 1, and 0 at padding.
   * Dispose of it before parameters change: until then it reads the engine's.
   */
  startDecoding(inputs: GenerationInputs): Promise<Decoding>;

  /** Tensors that the engine's library holds now in this process. */
  memory(): { readonly numTensors: number; readonly numBytes: number };

  dispose(): Promise<void>;
}
