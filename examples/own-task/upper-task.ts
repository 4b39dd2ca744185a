/** A task in TypeScript: writes a word in capitals. */
import { defineTask } from 'exmix';

export default defineTask(({ source }) => ({
  name: 'upper',
  family: 'mine',
  metrics: ['accuracy'],
  source: source({ path: 'words.jsonl', format: 'jsonl' }),
  preprocessor: {
    identity: { version: 1 }, // raise it when `apply` gives other examples
    fields: ['word'],
    apply: ({ word }) =>
      typeof word === 'string'
        ? { ok: true, examples: [{ inputs: `upper: ${word}`, targets: word.toUpperCase() }] }
        : { ok: false, reason: 'field "word" must be text' },
  },
}));
