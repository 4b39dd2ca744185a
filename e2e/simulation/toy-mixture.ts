/** A minimal mixture that can be planned, dealt and filled into rows: three supervised tasks with tokens computed from their position. */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { PreparedTask } from '../../mixture/feed/prepared-task.ts';

/** Number of token ids of the toy model. */
export const TOY_VOCABULARY = 16;
export const TOY_FEATURE_LENGTHS = { inputs: 8, targets: 6 };

const FIRST_WORD_ID = 2;
const EOS_ID = 1;
/** Few examples, so that a short run makes several passes over some tasks. */
const TASKS = [
  { name: 'ants', numExamples: 5 },
  { name: 'bees', numExamples: 11 },
  { name: 'cows', numExamples: 23 },
];

/** The part of a prepared task that the coordinator, the plan and `fillRow` use. */
type ToyTask = Pick<PreparedTask, 'name' | 'kind' | 'numExamples' | 'inputsLength' | 'targetsLength' | 'readTokens'>;

export function createToyMixture(): PreparedMixture {
  const tasks = TASKS.map(({ name, numExamples }, task): ToyTask => {
    const inputsLength = (index: number): number => 2 + ((3 * index + task) % 4);
    const targetsLength = (index: number): number => 1 + ((index + 2 * task) % 3);
    const word = (index: number, place: number): number =>
      FIRST_WORD_ID + ((7 * index + 5 * place + 3 * task) % (TOY_VOCABULARY - FIRST_WORD_ID));
    const readTokens = (index: number): Promise<Int32Array> => {
      const numInputs = inputsLength(index);
      const length = numInputs + targetsLength(index);
      const isLast = (place: number): boolean => place === numInputs - 1 || place === length - 1;
      return Promise.resolve(Int32Array.from({ length }, (_, i) => (isLast(i) ? EOS_ID : word(index, i))));
    };
    return { name, kind: 'supervised', numExamples, inputsLength, targetsLength, readTokens };
  });
  const mixture = {
    folder: '/simulated/mixture',
    name: 'toy',
    hash: '70'.repeat(32),
    featureLengths: TOY_FEATURE_LENGTHS,
    tokenizer: { hash: '71'.repeat(32), vocabSize: TOY_VOCABULARY, numExtraIds: 0 },
    tasks,
    sizes: tasks,
    taskNames: tasks.map(({ name }) => name),
    close: () => undefined,
  };
  // A PreparedTask and a manifest's tokenizer have more properties, which neither plan nor feed uses.
  return mixture as unknown as PreparedMixture;
}
