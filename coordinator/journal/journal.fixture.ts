/** The text of a journal, for tests that write one without a coordinator. */
import type { JournalRecord } from './journal-records.ts';
import { encodeRecord, FIRST_LINK, linkTo } from './journal.ts';

/** Lines of records that follow each other. @param after the line that they follow, with or without its newline; default: none */
export function journalText(records: readonly JournalRecord[], after?: string): string {
  let link = after === undefined ? FIRST_LINK : linkTo(after.trimEnd());
  return records
    .map((record) => {
      const line = encodeRecord(record, link);
      link = linkTo(line.trimEnd());
      return line;
    })
    .join('');
}
