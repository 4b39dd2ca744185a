/**
 * A prepared mixture as a run with denoisers sees it: each denoising task becomes one task for each denoiser, over the same stored segments.
 * The prepared files, their hashes and the supervised tasks stay as they are.
 */
import type { Denoiser } from '../../shared/denoisers.ts';
import { assertInvariant } from '../../shared/errors.ts';
import { cutForDenoiser, denoisedLengths, type DenoiserParts } from '../plan/denoisers.ts';
import type { MixtureTask, PreparedMixture } from './prepared-mixture.ts';

/** @param denoisers with the ids of their prefixes; undefined: T5's span corruption @throws CONFIG_INVALID if no text fits the lengths */
export function withDenoisers(mixture: PreparedMixture, denoisers: readonly Denoiser[] | undefined): PreparedMixture {
  if (denoisers === undefined) return mixture;
  const { featureLengths, tokenizer } = mixture;
  const tasks = mixture.tasks.flatMap((task): MixtureTask[] => {
    if (task.kind === 'supervised') return [task];
    const limits = { ...featureLengths, segmentLength: task.segmentLength, numSentinels: tokenizer.numExtraIds };
    return denoisers.map((denoiser) => new DenoiserTask(task, denoiser, cutForDenoiser(denoiser, limits)));
  });
  return {
    ...mixture,
    tasks,
    sizes: tasks.map(({ name, kind, numExamples, weight }) => ({
      ...{ name, kind, numExamples },
      ...(weight === undefined ? {} : { weight }),
    })),
    taskNames: tasks.map(({ name }) => name),
    close: () => mixture.close(),
  };
}

class DenoiserTask implements MixtureTask {
  readonly name: string;
  readonly kind = 'denoising';
  readonly numExamples: number;
  readonly segmentLength: number;
  readonly weight: number;
  readonly denoiser: Denoiser;
  readonly #text: MixtureTask;
  readonly #parts: DenoiserParts;

  constructor(text: MixtureTask, denoiser: Denoiser, parts: DenoiserParts) {
    this.name = `${text.name}.${denoiser.name}`;
    this.numExamples = text.numExamples * parts.partsPerSegment;
    this.segmentLength = parts.length;
    this.weight = denoiser.rate;
    this.denoiser = denoiser;
    this.#text = text;
    this.#parts = parts;
  }

  inputsLength(index: number): number {
    return denoisedLengths(this.denoiser, this.name, index, this.#parts.length).inputs;
  }

  targetsLength(index: number): number {
    return denoisedLengths(this.denoiser, this.name, index, this.#parts.length).targets;
  }

  /** The raw part. */
  async readTokens(index: number, signal?: AbortSignal): Promise<Int32Array> {
    const { partsPerSegment, length } = this.#parts;
    assertInvariant(index >= 0 && index < this.numExamples, `example ${index} of ${this.name}`);
    const segment = await this.#text.readTokens(Math.floor(index / partsPerSegment), signal);
    const start = (index % partsPerSegment) * length;
    return segment.subarray(start, start + length);
  }
}
