/** The tasks of a mixture to prepare: supervised tasks, and the denoising text with the length of its segments. */
import { TrainerError } from '../../shared/errors.ts';
import { computeSegmentLength, denoisingLengths } from '../plan/span-corruption.ts';
import type { Denoising, FeatureLengths, JsonValue, Mixture, Task } from '../tasks/task.ts';
import { heldOutIdentity, heldOutOf, type HeldOut } from '../tasks/train-cut.ts';
import { sha256Of } from './prepared-format.ts';

interface Held {
  /** Set if records of the source are held out for evaluation. */
  readonly heldOut?: HeldOut;
}

export type PreparableTask = Held &
  (
    | { readonly kind: 'supervised'; readonly task: Task }
    | { readonly kind: 'denoising'; readonly task: Denoising; readonly segmentLength: number }
  );

/** In the order of the mixture, denoising last. @throws CONFIG_INVALID if its targets do not fit the lengths */
export function listPreparables(mixture: Mixture, { inputs, targets }: FeatureLengths): PreparableTask[] {
  const held = ({ splits }: Task | Denoising): Held => {
    const heldOut = heldOutOf(splits);
    return heldOut === undefined ? {} : { heldOut };
  };
  const preparables: PreparableTask[] = mixture.tasks.map((task) => ({ kind: 'supervised', task, ...held(task) }));
  if (mixture.denoising === undefined) return preparables;
  const needed = denoisingLengths(inputs).targetsLength;
  if (needed > targets)
    throw new TrainerError(
      'CONFIG_INVALID',
      `feature lengths: denoising of ${inputs} input tokens needs ${needed} target tokens, found ${targets}; raise the targets or lower the inputs length`,
    );
  const segmentLength = computeSegmentLength({ inputsLimit: inputs, targetsLimit: targets });
  const { denoising } = mixture;
  return [...preparables, { kind: 'denoising', task: denoising, segmentLength, ...held(denoising) }];
}

/** Everything that the examples depend on besides source, tokenizer and lengths. */
export function preprocessorIdentity(preparable: PreparableTask): Record<string, JsonValue> {
  const { heldOut } = preparable;
  const rules =
    preparable.kind === 'supervised'
      ? preparable.task.preprocessor.identity
      : { kind: 'denoising', text: preparable.task.text, segmentLength: preparable.segmentLength };
  return { ...rules, ...(heldOut === undefined ? {} : heldOutIdentity(heldOut)) };
}

/** Processes compare it to know that they use the same preprocessor. */
export function hashPreprocessor(preparable: PreparableTask): string {
  return sha256Of(JSON.stringify(preprocessorIdentity(preparable)));
}
