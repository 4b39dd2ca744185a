/** A task in TypeScript as a user writes it: the example of the README with types. */
import type { TaskModule } from './task-module.ts';

const upper: TaskModule = ({ source }) => ({
  name: 'upper',
  family: 'mine',
  metrics: ['accuracy'],
  source: source({ path: 'rows.jsonl', format: 'jsonl' }),
  preprocessor: {
    identity: { version: 1 },
    fields: ['word'],
    apply: ({ word }) =>
      typeof word === 'string'
        ? { ok: true, examples: [{ inputs: `upper: ${word}`, targets: word.toUpperCase() }] }
        : { ok: false, reason: 'field "word" must be text' },
  },
});

export default upper;
