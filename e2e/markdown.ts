/** Reads the documentation for the tests that compare it with the code: table cells, targets of links, anchors of headings. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Folders without documentation of ours: installed, made by runs, or reference data with their own page. */
const SKIPPED = ['node_modules', 'dist', 'runs', 'coverage', 'golden'];

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Paths under the repository's root, without hidden ones. */
export function listFiles(folder = ''): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter(({ name }) => !name.startsWith('.') && !(folder === '' && SKIPPED.includes(name)))
    .flatMap((entry) => (entry.isDirectory() ? listFiles(join(folder, entry.name)) : [join(folder, entry.name)]));
}

/** Cells of all table rows under a heading of any level and its subheadings, without header rows. */
export function tableRows(path: string, heading?: string): string[][] {
  const text = heading === undefined ? readText(path) : section(readText(path), heading);
  const lines = withoutCode(text).split('\n');
  return lines
    .filter((line, i) => line.startsWith('|') && !isRule(line) && !isRule(lines[i + 1] ?? ''))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** The texts in backticks. */
export function codeSpans(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/gu)].map((found) => found[1]!);
}

/** Targets of `[…](…)`, without URLs. */
export function relativeLinks(path: string): string[] {
  const targets = [...withoutCode(readText(path)).matchAll(/\]\(([^)\s]+)\)/gu)].map((found) => found[1]!);
  return targets.filter((target) => !/^[a-z]+:/u.test(target));
}

/** Anchors of a page's headings, as GitHub makes them. */
export function anchors(path: string): string[] {
  const headings = [...withoutCode(readText(path)).matchAll(/^#+ (.+)$/gmu)].map((found) => found[1]!);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

function isRule(line: string): boolean {
  return /^\|[\s:|-]+\|$/u.test(line);
}

function withoutCode(text: string): string {
  return text.replaceAll(/^```[^]*?^```$/gmu, '');
}

function section(text: string, heading: string): string {
  const lines = text.split('\n');
  const level = (line: string): number => /^(#+) /u.exec(line)?.[1]?.length ?? Infinity;
  const start = lines.findIndex((line) => level(line) < Infinity && line.replace(/^#+ /u, '') === heading);
  if (start < 0) return '';
  const end = lines.findIndex((line, i) => i > start && level(line) <= level(lines[start]!));
  return lines.slice(start + 1, end < 0 ? undefined : end).join('\n');
}
