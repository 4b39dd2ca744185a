/** What a set keeps of a record for judging: right answers and the columns that a post-processor reads. Pure. */
import { padPunctuation } from '../tasks/exmix/text-derivations.ts';
import { describeValue, isRecord } from '../tasks/exmix/column-type.ts';
import type { Evaluation, References, SourceFields } from '../tasks/task.ts';
import { missingField, normalizeWhitespace } from '../tasks/template.ts';
import type { SetFieldValue } from './set-record.ts';

export type Judged =
  | {
      readonly ok: true;
      /** Empty if the targets are the only answer. */
      readonly references: readonly string[];
      readonly fields: Readonly<Record<string, SetFieldValue>>;
    }
  | { readonly ok: false; readonly reason: string };

/** The columns that `readJudged` reads. */
export function judgedColumns({ references, fields }: Pick<Evaluation, 'references' | 'fields'>): string[] {
  const paths = [...Object.values(fields), ...(references === undefined ? [] : [references.path])];
  return [...new Set(paths.map((path) => path.split(/\.|\[\]/u, 1)[0]!))];
}

/** @returns the values, or the reason why the row is malformed */
export function readJudged(
  { references, fields }: Pick<Evaluation, 'references' | 'fields'>,
  record: SourceFields,
): Judged {
  const answers = references === undefined ? [] : readAnswers(references, record);
  if (typeof answers === 'string') return { ok: false, reason: answers };
  const read: Record<string, SetFieldValue> = {};
  for (const [name, path] of Object.entries(fields)) {
    const [value, ...others] = valuesAt(record, path);
    if (value instanceof Problem) return { ok: false, reason: value.reason };
    const plain = others.length === 0 ? fieldValue(value) : undefined;
    if (plain === undefined)
      return {
        ok: false,
        reason: `field "${path}" must be text, a number, a boolean or a list of them, but is ${describeValue(value)}`,
      };
    read[name] = plain;
  }
  return { ok: true, references: answers, fields: read };
}

/** All answers with the targets first, if they are among them; without any, the targets. */
export function orderReferences(answers: readonly string[], targets: string): readonly string[] {
  if (answers.length === 0) return [targets];
  return answers.includes(targets) ? [targets, ...answers.filter((answer) => answer !== targets)] : answers;
}

/** Without blanks and repetitions. A string is the reason why the row is malformed. */
function readAnswers({ path, isPadded }: References, record: SourceFields): string[] | string {
  const answers = new Set<string>();
  for (const value of valuesAt(record, path).flat()) {
    if (value instanceof Problem) return value.reason;
    if (value === null || value === undefined) continue;
    const plain = fieldValue(value);
    if (plain === undefined || typeof plain === 'object')
      return `references: "${path}" must hold texts, but holds ${describeValue(value)}`;
    const text = isPadded === true ? padPunctuation(String(plain)) : normalizeWhitespace(String(plain));
    if (text === '') continue;
    if (!text.isWellFormed()) return `references: "${path}" holds half of a surrogate pair`;
    answers.add(text);
  }
  return [...answers];
}

class Problem {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** The values at a path: one, or with `[]` one for each element of the list. */
function valuesAt(record: SourceFields, path: string): unknown[] {
  let values: unknown[] = [record];
  for (const part of path.split('.')) {
    const isList = part.endsWith('[]');
    const name = isList ? part.slice(0, -2) : part;
    values = values.flatMap((value): unknown[] => {
      if (value instanceof Problem || value === null || value === undefined) return [value];
      if (!isRecord(value))
        return [new Problem(`"${path}" expects a struct around "${name}", found ${describeValue(value)}`)];
      if (!Object.hasOwn(value, name)) return [new Problem(missingField(name, Object.keys(value)))];
      const inner = value[name];
      if (!isList || inner === null) return [inner];
      return Array.isArray(inner)
        ? inner
        : [new Problem(`"${path}" expects a list at "${name}", found ${describeValue(inner)}`)];
    });
  }
  return values;
}

function fieldValue(value: unknown): SetFieldValue | undefined {
  if (Array.isArray(value)) {
    const plain = value.map(scalar);
    return plain.some((one) => one === undefined) ? undefined : plain.filter((one) => one !== undefined);
  }
  return scalar(value);
}

function scalar(value: unknown): string | number | boolean | undefined {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  return typeof value === 'string' || typeof value === 'boolean' ? value : undefined;
}
