/**
 * mixture.yaml → Mixture. All problems of the file are told at once, each with its line and place.
 *
 * Assumptions: relative paths are relative to the YAML file; whether the sources exist is checked when they are read, so a
 * mixture can be listed on a machine without its data.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, resolve } from 'node:path';
import { LineCounter, parseDocument, type Document } from 'yaml';
import type { z } from 'zod';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import { isLocalLocation } from '../../shared/storage/open-storage.ts';
import { knownKeysAt, mixtureSchema, type MixtureFile, type SourceEntry } from './mixture-schema.ts';
import { TEXT_FIELD, type Denoising, type Mixture, type SourceFile, type SourceSpec, type Task } from './task.ts';
import { createTemplatePreprocessor } from './template-preprocessor.ts';
import { missingField, parseTemplate } from './template.ts';

interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** @throws PATH_UNUSABLE where the file cannot be read, CONFIG_INVALID with all its problems. */
export function loadMixture(path: string): Mixture {
  const absolutePath = resolve(path);
  let yaml: string;
  try {
    yaml = readFileSync(absolutePath, 'utf8');
  } catch (error) {
    throw new TrainerError(
      'PATH_UNUSABLE',
      `mixture file ${absolutePath} cannot be read; give one with --mixture PATH`,
      {
        cause: error,
      },
    );
  }
  return parseMixture(yaml, absolutePath);
}

/** @param path absolute; names the file in messages and is what relative paths are relative to. @throws CONFIG_INVALID */
export function parseMixture(yaml: string, path: string): Mixture {
  const lines = new LineCounter();
  const document = parseDocument(yaml, { lineCounter: lines });
  if (document.errors.length > 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `${path} is not YAML:\n${document.errors.map((error) => `  ${error.message}`).join('\n')}`,
    );
  const parsed = mixtureSchema.safeParse(document.toJS());
  const problems = parsed.success ? [] : parsed.error.issues.flatMap(describeIssue);
  const mixture = parsed.success ? buildMixture(parsed.data, path, problems) : undefined;
  if (problems.length > 0 || mixture === undefined) throw describeProblems(path, problems, document, lines);
  return mixture;
}

/** The task, or the denoising task, of that name. @throws NAME_UNKNOWN with the nearest names. */
export function findTask(mixture: Mixture, name: string): Task | Denoising {
  const tasks: (Task | Denoising)[] = [...mixture.tasks];
  if (mixture.denoising !== undefined) tasks.push(mixture.denoising);
  const task = tasks.find((candidate) => candidate.name === name);
  if (task !== undefined) return task;
  const names = tasks.map((candidate) => candidate.name);
  const near = nearestNames(name, names);
  const hint = near.length > 0 ? `did you mean ${near.join(', ')}?` : `its tasks: ${names.join(', ')}`;
  throw new TrainerError('NAME_UNKNOWN', `mixture ${mixture.name} has no task "${name}"; ${hint}`);
}

function buildMixture(file: MixtureFile, path: string, problems: Problem[]): Mixture {
  const folder = dirname(path);
  const tasks: Task[] = [];
  for (const [i, entry] of (file.tasks ?? []).entries()) {
    const source = buildSource(entry.source, folder);
    for (const key of ['inputs', 'targets'] as const)
      problems.push(...templateProblems(entry[key], source, ['tasks', i, key]));
    if (entry.labels !== undefined && new Set(entry.labels).size < entry.labels.length)
      problems.push({ path: ['tasks', i, 'labels'], message: 'a label comes twice' });
    if (problems.length > 0) continue;
    const { inputs, targets, labels } = entry;
    const preprocessor = createTemplatePreprocessor({ inputs, targets, ...(labels === undefined ? {} : { labels }) });
    tasks.push({ name: entry.name, family: entry.family, source, preprocessor, metrics: entry.metrics ?? [] });
  }
  const denoising = file.denoising && {
    name: file.denoising.name,
    source: buildSource(file.denoising.source, folder),
    text: file.denoising.text ?? `{${TEXT_FIELD}}`,
  };
  if (denoising !== undefined)
    problems.push(...templateProblems(denoising.text, denoising.source, ['denoising', 'text']));
  problems.push(...duplicateNames(file));
  if ((file.tasks ?? []).length === 0 && denoising === undefined)
    problems.push({ path: [], message: 'has neither tasks nor denoising' });
  return {
    name: file.name,
    path,
    tokenizerPath: resolve(folder, file.tokenizer),
    tasks,
    ...(denoising === undefined ? {} : { denoising }),
  };
}

function buildSource(entry: SourceEntry, folder: string): SourceSpec {
  const { hub, config, split = 'train', revision, files, format, quotes = true } = entry;
  if (hub !== undefined)
    return {
      kind: 'hub',
      dataset: hub,
      split,
      ...(config === undefined ? {} : { config }),
      ...(revision === undefined ? {} : { revision }),
      ...(files === undefined ? {} : { files: listOf(files) }),
      format: format ?? 'parquet',
      quotes,
    };
  return {
    kind: 'files',
    format: format ?? 'jsonl',
    quotes,
    files: listOf(entry.path ?? []).map((path) => buildFile(path, folder)),
  };
}

function buildFile(path: string, folder: string): SourceFile {
  if (isLocalLocation(path) && !path.startsWith('file:'))
    return {
      location: resolve(folder, path),
      name: (isAbsolute(path) ? basename(path) : path).replaceAll('\\', '/'),
    };
  // What stands behind a question mark may be a signature: it is no name.
  return { location: path, name: path.replace(/[?#].*$/u, '') };
}

function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}

function templateProblems(template: string, source: SourceSpec, path: readonly PropertyKey[]): Problem[] {
  try {
    const { fields } = parseTemplate(template);
    if (source.format !== 'text') return [];
    return fields
      .filter((name) => name !== TEXT_FIELD)
      .map((name) => ({ path, message: missingField(name, [TEXT_FIELD]) }));
  } catch (error) {
    return [{ path, message: toTrainerError(error).message }];
  }
}

function duplicateNames(file: MixtureFile): Problem[] {
  const seen = new Set<string>();
  const problems: Problem[] = [];
  const named: (readonly [readonly PropertyKey[], string])[] = (file.tasks ?? []).map(
    (task, i) => [['tasks', i, 'name'], task.name] as const,
  );
  if (file.denoising !== undefined) named.push([['denoising', 'name'], file.denoising.name]);
  for (const [path, name] of named) {
    if (seen.has(name)) problems.push({ path, message: `the name "${name}" is taken by an earlier task` });
    seen.add(name);
  }
  return problems;
}

function describeIssue(issue: z.core.$ZodIssue): Problem[] {
  if (issue.code !== 'unrecognized_keys') return [{ path: issue.path, message: issue.message }];
  const known = knownKeysAt(issue.path);
  return issue.keys.map((key) => {
    const near = nearestNames(key, known);
    const hint = near.length > 0 ? `did you mean ${near.join(', ')}?` : `known here: ${known.join(', ')}`;
    return { path: [...issue.path, key], message: `unknown key; ${hint}` };
  });
}

function describeProblems(
  path: string,
  problems: readonly Problem[],
  document: Document,
  lines: LineCounter,
): TrainerError {
  const rows = problems.map(({ path: place, message }) => {
    const name =
      place[0] === 'tasks' && typeof place[1] === 'number' ? document.getIn(['tasks', place[1], 'name']) : '';
    const where = place.reduce<string>(
      (so, key) => so + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
      '',
    );
    const task = typeof name === 'string' && name !== '' ? ` (${name})` : '';
    return `  line ${lineOf(document, lines, place)}: ${where.slice(1) || 'the mixture'}${task}: ${message}`;
  });
  return new TrainerError('CONFIG_INVALID', `${path}: ${rows.length} problem(s)\n${rows.join('\n')}`);
}

/** Line of the value at `place`, or of the nearest thing around it that exists. */
function lineOf(document: Document, lines: LineCounter, place: readonly PropertyKey[]): number {
  for (let depth = place.length; depth > 0; depth--) {
    const found: unknown = document.getIn(place.slice(0, depth), true);
    if (typeof found === 'object' && found !== null && 'range' in found && Array.isArray(found.range))
      return lines.linePos(Number(found.range[0])).line;
  }
  return 1;
}
