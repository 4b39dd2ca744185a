/**
 * Templates: text with `{field}` placeholders, and the preprocessor that a mixture file writes with two of them.
 *
 * Definition: `{{` and `}}` are literal braces. T5's whitespace rule applies to rendered text: each run of whitespace
 * becomes one space, and there is none at the ends.
 * Labels: the target of a row must be one of the labels as text. If targets is one placeholder alone and no label looks
 * like a whole number, the target may also be an index: an integer, its digits, or a boolean for two labels. -1, T5's
 * mark for a row without label, is an unknown label, because there is nothing to learn from it.
 */
import { nearestNames } from '../../shared/nearest-names.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Preprocessed, Preprocessor, SourceFields } from './task.ts';

/** Fields or labels that a reason lists. */
const MAX_SHOWN = 12;
const WHOLE_NUMBER = /^-?\d+$/u;

type Part = { readonly kind: 'literal'; readonly text: string } | { readonly kind: 'field'; readonly name: string };

export interface Template {
  readonly source: string;
  readonly parts: readonly Part[];
  /** Each field once, in order of first use. */
  readonly fields: readonly string[];
}

export type Rendered = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string };

export function normalizeWhitespace(text: string): string {
  // Replaces only what is not a single plain space: most text has little of it.
  return text.replace(/\s{2,}|[^\S ]/gu, ' ').trim();
}

/** @throws CONFIG_INVALID for a brace without its partner, an empty name, or no placeholder at all */
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

/**
 * Fills the template. Malformed: a field is missing, or is not text, number or boolean; or all placeholders are blank.
 */
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

/** A field as text. */
function fieldText(fields: SourceFields, name: string): Rendered {
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

/** "field X is missing", with the nearest fields of the record. */
export function missingField(name: string, present: readonly string[]): string {
  const others = `fields here: ${present.slice(0, MAX_SHOWN).join(', ') || 'none'}`;
  return `field "${name}" is missing; ${quotedHint(name, present, others)}`;
}

/** `did you mean "X", "Y"?`, or `otherwise` if no name is near. */
export function quotedHint(name: string, known: readonly string[], otherwise: string): string {
  const near = nearestNames(name, known);
  return near.length > 0 ? `did you mean "${near.join('", "')}"?` : otherwise;
}

export interface TemplateTask {
  readonly inputs: string;
  readonly targets: string;
  readonly labels?: readonly string[];
}

/** @throws CONFIG_INVALID for an invalid template */
export function createTemplatePreprocessor({ inputs, targets, labels }: TemplateTask): Preprocessor {
  const inputsTemplate = parseTemplate(inputs);
  const targetsTemplate = parseTemplate(targets);
  const normalLabels = labels?.map(normalizeWhitespace);
  const renderTargets =
    normalLabels === undefined
      ? (fields: SourceFields) => renderTemplate(targetsTemplate, fields)
      : createLabelReader(targetsTemplate, normalLabels);
  return {
    identity: { kind: 'template', inputs, targets, labels: labels ?? null },
    fields: [...new Set([...inputsTemplate.fields, ...targetsTemplate.fields])],
    apply(fields): Preprocessed {
      const inputsText = renderTemplate(inputsTemplate, fields);
      if (!inputsText.ok) return { ok: false, reason: `inputs: ${inputsText.reason}` };
      const targetsText = renderTargets(fields);
      if (!targetsText.ok) return { ok: false, reason: `targets: ${targetsText.reason}` };
      return { ok: true, examples: [{ inputs: inputsText.text, targets: targetsText.text }] };
    },
  };
}

function createLabelReader(template: Template, labels: readonly string[]): (fields: SourceFields) => Rendered {
  const lonePart = template.parts.length === 1 ? template.parts[0] : undefined;
  const known = new Set(labels);
  const isIndexed = lonePart?.kind === 'field' && !labels.some((label) => WHOLE_NUMBER.test(label));
  return (fields) => {
    const rendered = renderTemplate(template, fields);
    if (!rendered.ok || known.has(rendered.text)) return rendered;
    const indexed = isIndexed ? labelAt(labels, fields, lonePart.name) : undefined;
    if (indexed !== undefined) return { ok: true, text: indexed };
    const hint = quotedHint(rendered.text, labels, `labels: ${labels.slice(0, MAX_SHOWN).join(', ')}`);
    return { ok: false, reason: `unknown label "${rendered.text.slice(0, 60)}"; ${hint}` };
  };
}

function labelAt(labels: readonly string[], fields: SourceFields, name: string): string | undefined {
  if (typeof fields[name] === 'boolean') return labels.length === 2 ? labels[Number(fields[name])] : undefined;
  const value = fieldText(fields, name);
  const digits = value.ok ? value.text.trim() : '';
  return WHOLE_NUMBER.test(digits) ? labels[Number(digits)] : undefined;
}
