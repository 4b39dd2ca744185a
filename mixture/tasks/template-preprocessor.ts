/**
 * The preprocessor that a mixture file can write: two templates and, for classification, label names.
 *
 * Labels: a row's target is one of them as text, or (where targets is one lone placeholder and no label looks like a whole
 * number) an index into them, as an integer, as its digits or, for two labels, as a boolean. -1, T5's mark of an unlabelled
 * row, is an unknown label: there is nothing to learn from it.
 */
import { nearestNames } from '../../shared/nearest-names.ts';
import type { Preprocessor, Preprocessed, SourceFields } from './task.ts';
import {
  fieldText,
  normalizeWhitespace,
  parseTemplate,
  renderTemplate,
  type Rendered,
  type Template,
} from './template.ts';

export interface TemplateTask {
  readonly inputs: string;
  readonly targets: string;
  readonly labels?: readonly string[];
}

const WHOLE_NUMBER = /^-?\d+$/u;

/** @throws CONFIG_INVALID for a template that does not parse. */
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
    const near = nearestNames(rendered.text, labels);
    const hint = near.length > 0 ? `did you mean "${near.join('", "')}"?` : `labels: ${labels.slice(0, 12).join(', ')}`;
    return { ok: false, reason: `unknown label "${rendered.text.slice(0, 60)}"; ${hint}` };
  };
}

function labelAt(labels: readonly string[], fields: SourceFields, name: string): string | undefined {
  if (typeof fields[name] === 'boolean') return labels.length === 2 ? labels[Number(fields[name])] : undefined;
  const value = fieldText(fields, name);
  const digits = value.ok ? value.text.trim() : '';
  return WHOLE_NUMBER.test(digits) ? labels[Number(digits)] : undefined;
}
