/** The two formats in which a line is a record: JSONL and plain text. Blank lines are no records. */
import { TEXT_FIELD, type SourceFields } from '../tasks/task.ts';
import type { SourceRecord, TextLine } from './source-record.ts';

export function parseJsonLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { file, row: line.line, ok: false, rows: 1, reason: line.reason };
  if (line.text.trim() === '') return undefined;
  const origin = { file, row: line.line };
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch {
    // The engine's own message is left out: reasons stand in manifests, whose bytes must not depend on the version of Node.
    const start = JSON.stringify(line.text.slice(0, 40));
    return { ...origin, ok: false, rows: 1, reason: `not JSON: the line starts with ${start}` };
  }
  if (!isObject(value)) return { ...origin, ok: false, rows: 1, reason: 'not a JSON object' };
  return { ...origin, ok: true, fields: value };
}

export function parseTextLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { file, row: line.line, ok: false, rows: 1, reason: line.reason };
  if (line.text.trim() === '') return undefined;
  return { file, row: line.line, ok: true, fields: { [TEXT_FIELD]: line.text } };
}

function isObject(value: unknown): value is SourceFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
