/** Made-up documents in the schema of C4. Expected: the document, without targets. */
import type { MadeUpRows } from './made-up-rows.ts';

export const C4_ROWS: MadeUpRows = {
  otherColumns: { timestamp: 'string', url: 'string' },
  rows: [
    {
      text: 'The mill stands by the river.\nIt still grinds corn.',
      timestamp: '2019-04-25T12:57:54Z',
      url: 'http://example.org/mill',
    },
    { text: 'Boats for hire.', timestamp: '2019-04-21T10:07:13Z', url: 'http://example.org/boats' },
  ],
  expected: [
    ['The mill stands by the river. It still grinds corn.', ''],
    ['Boats for hire.', ''],
  ],
};
