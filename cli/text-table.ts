/** Formats rows as aligned columns for a terminal: numbers to the right, text to the left. */

import { visibleText } from '../shared/visible-text.ts';

export type Cell = string | number;

export function formatTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const isNumeric = head.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  const texts = [head, ...rows.map((row) => row.map(formatCell))];
  const widths = head.map((_, column) => Math.max(...texts.map((row) => row[column]?.length ?? 0)));
  const lines = texts.map((row) =>
    row.map((text, column) =>
      isNumeric[column] === true ? text.padStart(widths[column]!) : text.padEnd(widths[column]!),
    ),
  );
  return lines.map((line) => `${line.join('  ').trimEnd()}\n`).join('');
}

function formatCell(cell: Cell): string {
  return typeof cell === 'number' ? formatNumber(cell) : visibleText(cell);
}

/** Whole numbers with thousands separated, others to three significant digits. */
export function formatNumber(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  return Number(value.toPrecision(3)).toLocaleString('en-US', { maximumSignificantDigits: 3 });
}
