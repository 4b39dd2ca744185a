/**
 * run-settings.ts, made of the schema of a run's configuration: `node --import tsx api/write-run-settings.ts` writes it, and a test holds
 * the two together. The declarations of the package name no type of zod.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { runConfigSchema } from '../shared/config/schema.ts';

export const RUN_SETTINGS_FILE = fileURLToPath(new URL('run-settings.ts', import.meta.url));

/** A JSON schema, as far as it is read here. */
interface Schema {
  readonly type?: string;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly default?: unknown;
  readonly description?: string;
}

export function renderRunSettings(): string {
  const schema = z.toJSONSchema(runConfigSchema, { io: 'input', unrepresentable: 'any' }) as Schema;
  return `/**
 * The settings of a run as a program gives them. Each may be left out where a preset, a file or a default has it.
 *
 * Made of shared/config/schema.ts by \`node --import tsx api/write-run-settings.ts\`; do not edit.
 */

export interface RunSettings ${renderObject(schema, '')}
`;
}

function renderObject({ properties = {} }: Schema, indent: string): string {
  const inner = `${indent}  `;
  const lines = Object.entries(properties).flatMap(([name, field]) => [
    ...renderComment(field, inner),
    `${inner}readonly ${name}?: ${renderType(field, inner)};`,
  ]);
  return `{\n${lines.join('\n')}\n${indent}}`;
}

function renderComment({ description, default: value, properties }: Schema, indent: string): string[] {
  const shown = value === undefined || properties !== undefined ? '' : `Default: ${JSON.stringify(value)}.`;
  const text = [description, shown].filter((part) => part !== undefined && part !== '').join(' ');
  return text === '' ? [] : [`${indent}/** ${text} */`];
}

function renderType(schema: Schema, indent: string): string {
  if (schema.const !== undefined) return quote(schema.const);
  if (schema.enum !== undefined) return schema.enum.map(quote).join(' | ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined) return alternatives.map((one) => renderType(one, indent)).join(' | ');
  if (schema.properties !== undefined) return renderObject(schema, indent);
  if (schema.type === 'array') {
    const { anyOf, oneOf } = schema.items!;
    const element = renderType(schema.items!, indent);
    return (anyOf ?? oneOf) === undefined ? `readonly ${element}[]` : `readonly (${element})[]`;
  }
  if (schema.type === 'object')
    return `Readonly<Record<string, ${renderType(schema.additionalProperties as Schema, indent)}>>`;
  return schema.type === 'integer' ? 'number' : schema.type!;
}

function quote(text: string): string {
  return `'${text}'`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(RUN_SETTINGS_FILE, renderRunSettings());
