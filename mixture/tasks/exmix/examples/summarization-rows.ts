/** Made-up rows of the sets of summarization.ts. Schemas: the metadata of the sets of those names. */
import type { Examples } from './made-up-rows.ts';

export const SUMMARIZATION_ROWS: Examples = {
  cnn_dailymail: {
    otherColumns: { id: 'string' },
    rows: [
      {
        article: 'The old mill burned on Monday.\nNobody was hurt.',
        highlights: 'Mill burned .\nNobody hurt .',
        id: 'a',
      },
      { article: 'Vela won again.', highlights: 'Vela won .', id: 'b' },
    ],
    expected: [
      ['summarize: The old mill burned on Monday. Nobody was hurt.', 'Mill burned . Nobody hurt .'],
      ['summarize: Vela won again.', 'Vela won .'],
    ],
  },
  xsum: {
    otherColumns: { id: 'string' },
    rows: [
      { document: 'The pool opens in June. It cost a lot.', summary: 'A costly pool opens in June.', id: '1' },
      { document: 'Rain fell for a week.', summary: 'It rained.', id: '2' },
    ],
    expected: [
      ['summarize xsum: The pool opens in June. It cost a lot.', 'A costly pool opens in June.'],
      ['summarize xsum: Rain fell for a week.', 'It rained.'],
    ],
  },
  multi_news: {
    rows: [
      { document: 'The pool opens. ||||| A pool opens in June.', summary: '– A pool opens in June.' },
      { document: 'Vela won.', summary: '– Vela won a race.' },
    ],
    expected: [
      ['summarize multi_news: The pool opens. ||||| A pool opens in June.', '– A pool opens in June.'],
      ['summarize multi_news: Vela won.', '– Vela won a race.'],
    ],
  },
  aeslc: {
    rows: [
      { email_body: 'Can we meet on Monday?\n\nAna', subject_line: 'Meeting on Monday' },
      { email_body: 'The report is attached.', subject_line: 'Report' },
    ],
    expected: [
      ['subject line: Can we meet on Monday? Ana', 'Meeting on Monday'],
      ['subject line: The report is attached.', 'Report'],
    ],
  },
  gigaword: {
    rows: [
      { document: 'sales rose ## percent in may , the firm said .', summary: 'sales rise in may' },
      { document: 'the old mill burned on monday .', summary: 'mill burns' },
    ],
    expected: [
      ['summarize gigaword: sales rose ## percent in may , the firm said .', 'sales rise in may'],
      ['summarize gigaword: the old mill burned on monday .', 'mill burns'],
    ],
  },
  samsum: {
    otherColumns: { id: 'string' },
    rows: [
      { id: '1', dialogue: 'Ana: Tea?\r\nLeo: Yes!', summary: 'Leo wants tea.' },
      { id: '2', dialogue: 'Mia: I am late.\r\nSam: Fine.', summary: 'Mia is late.' },
    ],
    expected: [
      ['summarize samsum: Ana: Tea? Leo: Yes!', 'Leo wants tea.'],
      ['summarize samsum: Mia: I am late. Sam: Fine.', 'Mia is late.'],
    ],
  },
  newsroom: {
    otherColumns: { title: 'string', url: 'string' },
    rows: [
      { text: 'A bridge fell in the night.', summary: 'Bridge falls', title: 'Bridge', url: 'http://example.org/1' },
      { text: 'The inn reopened.', summary: 'Inn is open', title: 'Inn', url: 'http://example.org/2' },
    ],
    expected: [
      ['summarize newsroom: A bridge fell in the night.', 'Bridge falls'],
      ['summarize newsroom: The inn reopened.', 'Inn is open'],
    ],
  },
  billsum: {
    otherColumns: { title: 'string' },
    rows: [
      { text: 'SECTION 1. The mill is a monument.', summary: 'Makes the mill a monument.', title: 'Mill Act' },
      { text: 'SECTION 1. The tax on oars ends.', summary: 'Ends a tax.', title: 'Oar Act' },
    ],
    expected: [
      ['summarize billsum: SECTION 1. The mill is a monument.', 'Makes the mill a monument.'],
      ['summarize billsum: SECTION 1. The tax on oars ends.', 'Ends a tax.'],
    ],
  },
};
