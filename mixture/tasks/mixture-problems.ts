/**
 * Problems of a mixture file. They are collected as values with their place; one error reports all, each with line,
 * place, task and nearest key.
 */
import type { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { parseYaml, type YamlDocument } from '../../shared/parse-yaml.ts';
import { nearestHint } from '../../shared/nearest-names.ts';
import { knownKeysAt } from './mixture-schema.ts';

export interface Problem {
  /** Keys and indices from the top of the file. */
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A parsed YAML file: its value, and the line of each part. */
export class MixtureDocument {
  readonly path: string;
  readonly #document: YamlDocument;

  /** @throws CONFIG_INVALID if the text is not YAML */
  constructor(yaml: string, path: string) {
    this.path = path;
    this.#document = parseYaml(yaml, path);
  }

  value(): unknown {
    return this.#document.value;
  }

  /** @returns one error that reports all problems */
  describe(problems: readonly Problem[]): TrainerError {
    const rows = problems.map(({ path: place, message }) => {
      const where = place.reduce<string>(
        (so, key) => so + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
        '',
      );
      return `  line ${this.#document.lineOf(place)}: ${where.slice(1) || 'the mixture'}${this.#taskAt(place)}: ${message}`;
    });
    return new TrainerError('CONFIG_INVALID', `${this.path}: ${rows.length} problem(s)\n${rows.join('\n')}`);
  }

  #taskAt(place: readonly PropertyKey[]): string {
    if (place[0] !== 'tasks' || typeof place[1] !== 'number') return '';
    const names = ['name', 'use', 'module'].map((key) => valueAt(this.#document.value, ['tasks', place[1]!, key]));
    const name = names.find((candidate) => typeof candidate === 'string' && candidate !== '');
    return typeof name === 'string' ? ` (${name})` : '';
  }
}

/**
 * Problems for one issue of a schema: one for each unknown key.
 * @param base place of the checked value
 * @param entry the checked value
 */
export function describeIssue(issue: z.core.$ZodIssue, base: readonly PropertyKey[], entry: unknown): Problem[] {
  const path = [...base, ...issue.path];
  if (issue.code !== 'unrecognized_keys') return [{ path, message: issue.message }];
  const known = knownKeysAt(path, entry);
  return issue.keys.map((key) => ({ path: [...path, key], message: `unknown key; ${hintOf(key, known)}` }));
}

/** "did you mean X?", or all known names if none is near. */
export function hintOf(name: string, known: readonly string[]): string {
  return nearestHint(name, known, `known here: ${known.join(', ')}`);
}

function valueAt(value: unknown, place: readonly PropertyKey[]): unknown {
  return place.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
}
