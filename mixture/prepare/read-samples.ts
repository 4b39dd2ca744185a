/**
 * The first examples of a task as text, read directly from its source. They show what a template makes of real rows
 * before preparing.
 */
import { readSource } from '../sources/read-unit.ts';
import { resolveSource } from '../sources/resolve-source.ts';
import { createSourceAccess, type SourceAccess } from '../sources/source-access.ts';
import type { Denoising, Task, TextPair } from '../tasks/task.ts';
import { parseTemplate, renderTemplate } from '../tasks/template.ts';

/**
 * @returns up to `count` examples; malformed rows are skipped. Denoising gives documents, with empty targets.
 * @throws SOURCE_UNREADABLE, CONFIG_INVALID
 */
export async function readSamples(
  task: Task | Denoising,
  count: number,
  access: SourceAccess = createSourceAccess(),
): Promise<TextPair[]> {
  const toPairs = 'preprocessor' in task ? supervisedPairs(task) : documentPairs(task);
  const samples: TextPair[] = [];
  for await (const batch of readSource(await resolveSource(task.source, access), { access })) {
    for (const record of batch) {
      if (record.ok) samples.push(...toPairs(record.fields));
      if (samples.length >= count) return samples.slice(0, count);
    }
  }
  return samples;
}

type ToPairs = (fields: Readonly<Record<string, unknown>>) => readonly TextPair[];

function supervisedPairs({ preprocessor }: Task): ToPairs {
  return (fields) => {
    const preprocessed = preprocessor.apply(fields);
    return preprocessed.ok ? preprocessed.examples : [];
  };
}

function documentPairs({ text }: Denoising): ToPairs {
  const template = parseTemplate(text);
  return (fields) => {
    const document = renderTemplate(template, fields);
    return document.ok ? [{ inputs: document.text, targets: '' }] : [];
  };
}
