/**
 * Templates of text with `{field}` placeholders, `{{` and `}}` for literal braces, and the whitespace rule of T5: every run
 * of whitespace becomes one space, none at the ends.
 */
import { nearestNames } from '../../shared/nearest-names.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { SourceFields } from './task.ts';

type Part = { readonly kind: 'literal'; readonly text: string } | { readonly kind: 'field'; readonly name: string };

export interface Template {
  readonly source: string;
  readonly parts: readonly Part[];
  /** Each field once, in the order of first use. */
  readonly fields: readonly string[];
}

export type Rendered = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string };

export function normalizeWhitespace(text: string): string {
  // Only what is not one plain space already: most text has little of it.
  return text.replace(/\s{2,}|[^\S ]/gu, ' ').trim();
}

/** @throws CONFIG_INVALID for a brace without its partner, an empty name, or a template without any placeholder. */
export function parseTemplate(source: string): Template {
  const parts: Part[] = [];
  const fields = new Set<string>();
  for (const match of source.matchAll(/\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+/gu)) {
    const [text, name] = match;
    if (name !== undefined) {
      if (name.trim() === '') throw invalid(source, 'a placeholder has no name');
      parts.push({ kind: 'field', name: name.trim() });
      fields.add(name.trim());
    } else if (text === '{' || text === '}') {
      throw invalid(source, `"${text}" at character ${match.index} has no partner; write "${text}${text}" for a brace`);
    } else {
      parts.push({ kind: 'literal', text: text === '{{' ? '{' : text === '}}' ? '}' : text });
    }
  }
  if (fields.size === 0) throw invalid(source, 'no {field} placeholder, so each row would give the same text');
  return { source, parts, fields: [...fields] };
}

function invalid(source: string, problem: string): TrainerError {
  return new TrainerError('CONFIG_INVALID', `template "${source}": ${problem}`);
}

/** Fills the template. Malformed: a field missing or not text, number or boolean; all placeholders blank. */
export function renderTemplate(template: Template, fields: SourceFields): Rendered {
  let text = '';
  let isBlank = true;
  for (const part of template.parts) {
    if (part.kind === 'literal') {
      text += part.text;
      continue;
    }
    const value = fieldText(fields, part.name);
    if (!value.ok) return value;
    if (value.text.trim() !== '') isBlank = false;
    text += value.text;
  }
  if (isBlank) return { ok: false, reason: `empty: ${template.fields.map((name) => `"${name}"`).join(', ')}` };
  return { ok: true, text: normalizeWhitespace(text) };
}

/** One field as text. */
export function fieldText(fields: SourceFields, name: string): Rendered {
  if (!Object.hasOwn(fields, name)) return { ok: false, reason: missingField(name, Object.keys(fields)) };
  const value = fields[name];
  if (typeof value === 'string') return { ok: true, text: value };
  if (typeof value === 'boolean' || typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value)))
    return { ok: true, text: String(value) };
  const found =
    value === null
      ? 'null'
      : Array.isArray(value)
        ? 'a list'
        : value instanceof Uint8Array
          ? 'bytes'
          : `of type ${typeof value}`;
  return { ok: false, reason: `field "${name}" must be text, a number or a boolean, but is ${found}` };
}

/** "field X is missing" with the nearest of the fields that are there. */
export function missingField(name: string, present: readonly string[]): string {
  const near = nearestNames(name, present);
  const hint =
    near.length > 0
      ? `did you mean "${near.join('", "')}"?`
      : `fields here: ${present.slice(0, 12).join(', ') || 'none'}`;
  return `field "${name}" is missing; ${hint}`;
}
