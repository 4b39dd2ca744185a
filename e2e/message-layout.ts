/** The layout of the control messages, read from their schemas: for the test that holds docs/protocol.md to them. */
import { z } from 'zod';

/** A mapping in a message: the message itself, or one inside it. */
export interface RecordLayout {
  /** `report`, `report.lanes`, `report.lanes.tasks`; alternatives of a union by their kind: `form.state.held`. */
  readonly path: string;
  /** In order; optional ones end in `?`. The kind is not among them. */
  readonly fields: readonly string[];
}

export interface FieldLayout {
  readonly path: string;
  /** `uint32`, `text[]`, `count or null`. */
  readonly type: string;
}

interface JsonSchema {
  readonly type?: string;
  readonly const?: string | boolean;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}

const MAX_UINT32 = 0xffff_ffff;
const TEXTS: Readonly<Record<number, string>> = { 256: 'text', 4096: 'path', 16_384: 'long text' };

/** All mappings and all leaves of a union of messages. */
export function layoutOf(schema: z.ZodType): { records: RecordLayout[]; fields: FieldLayout[] } {
  const records: RecordLayout[] = [];
  const fields: FieldLayout[] = [];
  const visit = (path: string, node: JsonSchema, suffix: string): void => {
    const { properties, required = [], items } = node;
    const alternatives = node.anyOf ?? node.oneOf;
    if (alternatives !== undefined) {
      const isNullable = alternatives.some(({ type }) => type === 'null');
      for (const alternative of alternatives.filter(({ type }) => type !== 'null'))
        visit(path, alternative, isNullable ? `${suffix} or null` : suffix);
    } else if (properties !== undefined) {
      const kind = properties['kind']?.const;
      const here = typeof kind === 'string' ? [path, kind].filter((part) => part !== '').join('.') : path;
      const own = Object.entries(properties).filter(([name]) => name !== 'kind');
      records.push({ path: here, fields: own.map(([name]) => (required.includes(name) ? name : `${name}?`)) });
      for (const [name, child] of own) visit(`${here}.${name}`, child, '');
    } else if (items !== undefined) visit(path, items, `[]${suffix}`);
    else fields.push({ path, type: typeName(node) + suffix });
  };
  visit('', z.toJSONSchema(schema, { unrepresentable: 'any' }) as JsonSchema, '');
  return { records, fields };
}

function typeName(schema: JsonSchema): string {
  const { type, minimum, exclusiveMinimum, maximum, maxLength, pattern } = schema;
  if (schema.enum !== undefined) return schema.enum.join(', ');
  if (schema.const !== undefined) return String(schema.const);
  if (type === 'integer') {
    if (exclusiveMinimum === 0) return 'positive';
    if (maximum === MAX_UINT32) return 'uint32';
    return maximum === Number.MAX_SAFE_INTEGER ? 'count' : `count to ${maximum}`;
  }
  if (type === 'number') return exclusiveMinimum === 0 ? 'number > 0' : minimum === 0 ? 'number ≥ 0' : 'number';
  if (type === 'string') return pattern === undefined ? TEXTS[maxLength ?? 0]! : 'digest';
  return type ?? 'any';
}
