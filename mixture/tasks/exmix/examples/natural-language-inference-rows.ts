/** Made-up rows of the sets of natural-language-inference.ts. Schemas: the metadata of anli, esnli, scitail; AgreeSum from memory. */
import type { Examples } from './made-up-rows.ts';

export const INFERENCE_ROWS: Examples = {
  anli: {
    otherColumns: { uid: 'string', reason: 'string' },
    rows: [
      { uid: 'a', premise: 'The mill is from 1820.', hypothesis: 'The mill is old.', label: 0, reason: '' },
      { uid: 'b', premise: 'The mill is from 1820.', hypothesis: 'The mill is new.', label: 2, reason: 'a date' },
    ],
    expected: [
      ['anli hypothesis: The mill is old. premise: The mill is from 1820.', 'entailment'],
      ['anli hypothesis: The mill is new. premise: The mill is from 1820.', 'contradiction'],
    ],
  },
  agree_sum: {
    rows: [
      { article: 'The mill burned on Monday.', summary: 'A mill burned.', label: 'entailed' },
      { article: 'The mill burned on Monday.', summary: 'An inn burned.', label: 'not_entailed' },
    ],
    expected: [
      ['agree_sum article: The mill burned on Monday. summary: A mill burned.', 'entailed'],
      ['agree_sum article: The mill burned on Monday. summary: An inn burned.', 'not_entailed'],
    ],
  },
  esnli: {
    otherColumns: { explanation_2: 'string', explanation_3: 'string' },
    rows: [
      {
        premise: 'A girl rows.',
        hypothesis: 'A girl moves.',
        label: 0,
        explanation_1: 'Rowing is moving.',
        explanation_2: '',
        explanation_3: '',
      },
      {
        premise: 'A girl rows.',
        hypothesis: 'A girl wins.',
        label: 1,
        explanation_1: 'Rowing need not win.',
        explanation_2: '',
        explanation_3: '',
      },
    ],
    expected: [
      ['explain nli hypothesis: A girl moves. premise: A girl rows.', 'entailment explanation: Rowing is moving.'],
      ['explain nli hypothesis: A girl wins. premise: A girl rows.', 'neutral explanation: Rowing need not win.'],
    ],
  },
  scitail: {
    rows: [
      { premise: 'Ice is lighter than water.', hypothesis: 'Ice floats.', label: 'entails' },
      { premise: 'Ice is cold.', hypothesis: 'Ice floats.', label: 'neutral' },
    ],
    expected: [
      ['scitail premise: Ice is lighter than water. hypothesis: Ice floats.', 'entails'],
      ['scitail premise: Ice is cold. hypothesis: Ice floats.', 'neutral'],
    ],
  },
};
