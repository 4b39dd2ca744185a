/** The two formats in which a line is a record: JSONL and plain text. Blank lines are no records. */
import { TEXT_FIELD, type SourceFields } from '../tasks/task.ts';
import type { SourceRecord, TextLine } from './source-record.ts';

export function parseJsonLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { ...line, file, lines: 1 };
  if (line.text.trim() === '') return undefined;
  const origin = { file, line: line.line };
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch (error) {
    return {
      ...origin,
      ok: false,
      lines: 1,
      reason: `not JSON: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  if (!isObject(value)) return { ...origin, ok: false, lines: 1, reason: 'not a JSON object' };
  return { ...origin, ok: true, fields: value };
}

export function parseTextLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { ...line, file, lines: 1 };
  if (line.text.trim() === '') return undefined;
  return { file, line: line.line, ok: true, fields: { [TEXT_FIELD]: line.text } };
}

function isObject(value: unknown): value is SourceFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
