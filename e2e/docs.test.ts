/** The documentation agrees with the code: bounds, dependencies, presets, links. docs-logs.test.ts checks the log, docs-protocol.test.ts the protocol. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { presetFile, presetNames } from '../cli/presets.ts';
import { checkConfig, loadConfig } from '../shared/config/load-config.ts';
import { runConfigSchema } from '../shared/config/schema.ts';
import { numElements, parameterSpecs } from '../worker/model/parameters.ts';
import { anchors, codeSpans, listFiles, readText, relativeLinks, ROOT, tableRows } from './markdown.ts';

const PRESETS = 'deploy/presets/README.md';
const ROOMS = [
  'api',
  'examples',
  'shared',
  'evaluation',
  'mixture',
  'coordinator',
  'worker',
  'cli',
  'deploy',
  'e2e',
  'bench',
  'docs',
];

describe('docs/limits.md', () => {
  const defaults: unknown = checkConfig(
    {
      name: 'defaults',
      model: {},
      mixture: { path: '/mixture.yaml' },
      training: { steps: 1 },
      schedule: { kind: 'constant' },
    },
    'the test',
  );

  const rows = tableRows('docs/limits.md');
  test('it has rows', () => assert.ok(rows.length > 50));

  for (const [bound, value, place] of rows)
    test(bound, () => {
      const number = Number(/^[\d,.]+/u.exec(value!)?.[0].replaceAll(',', ''));
      const file = /\]\(\.\.\/([^)]+)\)/u.exec(place!)![1]!;
      const name = codeSpans(place!)[0];
      if (file === 'shared/config/schema.ts') assert.equal(settingAt(defaults, name!), number);
      else if (file.endsWith('.ts')) {
        const lines = readText(file).split('\n');
        const values = lines.filter((line) => name === undefined || defines(line, name)).flatMap(numbersIn);
        assert.ok(values.includes(number), `${file} ${name ?? ''} has ${values.join(', ')}, the page has ${number}`);
      }
    });
});

describe('deploy/presets/README.md', () => {
  test('every setting with its default and its description, and no other', () => {
    const settings = settingsOf(z.toJSONSchema(runConfigSchema, { io: 'input', unrepresentable: 'any' }) as Section);
    const rows = tableRows(PRESETS, 'Settings').map(([name, value, meaning]) => ({ name, value, meaning }));
    const names = new Set(settings.map(({ path }) => path));
    assert.deepEqual(
      rows.map(({ name }) => codeSpans(name!)[0]),
      [...names],
    );
    for (const { path, value, description } of settings) {
      const row = rows.find(({ name }) => name === `\`${path}\``)!;
      if (value === undefined) assert.match(row.value!, /^(none|required)$/u, path);
      else assert.equal(row.value, `\`${JSON.stringify(value)}\``, path);
      if (description !== undefined) assert.equal(row.meaning, description, path);
    }
  });

  test('the presets are those of the folder, with the parameters of their models', async () => {
    const rows = tableRows(PRESETS, 'Presets').filter((cells) => cells.length === 5);
    assert.deepEqual(rows.map(([name]) => codeSpans(name!)[0]).sort(), presetNames());
    for (const [name, model, rowsPerStep] of rows) {
      const preset = codeSpans(name!)[0]!;
      const given = { path: ['mixture', 'path'], value: '/mixture.yaml', origin: 'the test' };
      const config = await loadConfig(presetFile(preset), [given]);
      const count = parameterSpecs(config.model).reduce((sum, { shape }) => sum + numElements(shape), 0);
      assert.ok(model!.includes(count.toLocaleString('en-US')), `${preset} has ${count} parameters`);
      assert.equal(rowsPerStep, config.training.rowsPerStep.toLocaleString('en-US'));
    }
  });
});

describe('docs/dependencies.md', () => {
  const packageFile = z
    .object({ dependencies: z.undefined().optional(), devDependencies: z.record(z.string(), z.string()) })
    .parse(JSON.parse(readText('package.json')));
  const namesUnder = (heading: string): string[] => {
    const rows = tableRows('docs/dependencies.md', heading);
    for (const [name, reason] of rows) assert.ok(reason!.length > 4, name);
    return rows.map(([name]) => codeSpans(name!)[0]!);
  };
  const compiled = namesUnder('Compiled into the package');

  test('one line of reason for each package, and no other', () => {
    const named = [...compiled, ...namesUnder('For development')];
    assert.deepEqual(named.sort(), Object.keys(packageFile.devDependencies).sort());
  });

  test('the packages compiled into the package are those of the build', async () => {
    const { currentBuild } = (await import(join(ROOT, 'deploy/package/current-build.mjs'))) as {
      currentBuild: () => Promise<URL>;
    };
    const build: unknown = JSON.parse(readFileSync(new URL('build.json', await currentBuild()), 'utf8'));
    const { packages } = z.object({ packages: z.array(z.string()) }).parse(build);
    const names = packages.map((one) => one.slice(0, one.lastIndexOf('@')));
    const ours = names.filter((name) => name in packageFile.devDependencies);
    assert.deepEqual(compiled, [...new Set(ours)].sort());
  });
});

describe('every page', () => {
  const files = listFiles();
  const pages = files.filter((file) => file.endsWith('.md'));

  test('relative links lead to files and headings that are there', () => {
    const broken = pages.flatMap((page) =>
      relativeLinks(page)
        .filter((link) => {
          const [path = '', anchor] = link.split('#');
          const target = path === '' ? page : join(dirname(page), path);
          if (!existsSync(join(ROOT, target))) return true;
          return anchor !== undefined && target.endsWith('.md') && !anchors(target).includes(anchor);
        })
        .map((link) => `${page}: ${link}`),
    );
    assert.deepEqual(broken, []);
  });

  test('source files that are named in code spans are there', () => {
    const isSource = (span: string): boolean =>
      ROOMS.includes(span.split('/')[0]!) && /^[\w./-]+\/[\w.-]+\.(?:ts|mjs|py|md)$/u.test(span);
    const missing = pages.flatMap((page) =>
      codeSpans(readText(page).replaceAll(/^```[^]*?^```$/gmu, ''))
        .filter((span) => isSource(span) && !existsSync(join(ROOT, span)))
        .map((span) => `${page}: ${span}`),
    );
    assert.deepEqual(missing, []);
  });

  const folders = new Set(files.map((file) => dirname(file)).filter((folder) => ROOMS.includes(folder.split('/')[0]!)));

  test('every folder with code has a README', () => {
    const isCode = (file: string): boolean => /\.(?:ts|mjs|cc|h|py)$/u.test(file);
    const silent = [...folders].filter(
      (folder) =>
        !existsSync(join(ROOT, folder, 'README.md')) && files.some((file) => dirname(file) === folder && isCode(file)),
    );
    assert.deepEqual(silent, []);
  });

  test('every folder of a room has a README, or is named in that of its parent', () => {
    const silent = [...folders].filter((folder) => {
      if (existsSync(join(ROOT, folder, 'README.md'))) return false;
      const parent = join(dirname(folder), 'README.md');
      const name = folder.split('/').at(-1)!;
      return !existsSync(join(ROOT, parent)) || !readText(parent).includes(`${name}/`);
    });
    assert.deepEqual(silent, []);
  });
});

/** A JSON schema, as far as it is read here. */
interface Section {
  readonly properties?: Readonly<Record<string, Section>>;
  readonly anyOf?: readonly Section[];
  readonly oneOf?: readonly Section[];
  readonly default?: unknown;
  readonly description?: string;
}

interface Setting {
  readonly path: string;
  /** The default; undefined where there is none. */
  readonly value: unknown;
  readonly description: string | undefined;
}

/** The leaves of the tree, in its order; one that several alternatives have comes once for each. */
/** @param inherited what the default of a section above says */
function settingsOf(section: Section, path: readonly string[] = [], inherited?: unknown): Setting[] {
  const value = section.default ?? inherited;
  const ofChild = (name: string): unknown => (value as Record<string, unknown> | undefined)?.[name];
  if (section.properties !== undefined)
    return Object.entries(section.properties).flatMap(([name, child]) =>
      settingsOf(child, [...path, name], ofChild(name)),
    );
  const alternatives = section.anyOf ?? section.oneOf;
  if (alternatives !== undefined) return alternatives.flatMap((alternative) => settingsOf(alternative, path, value));
  return [{ path: path.join('.'), value, description: section.description }];
}

/** The value at `a.b` of a tree. */
function settingAt(tree: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((at, part) => z.record(z.string(), z.unknown()).parse(at)[part], tree);
}

/** Whether a line of source gives the name its value: `NAME = 5`, `name: 5`, `name ?? 5`, `name: z.string().max(5)`. */
function defines(line: string, name: string): boolean {
  return new RegExp(`\\b${name}\\b\\s*(?:=|:|\\?\\?)`, 'u').test(line);
}

/** Values of the numbers, products, powers, shifts and differences of a line, e.g. `16 * 1024`, `2 ** 31 - 1`, `1 << 20`. */
function numbersIn(line: string): number[] {
  const terms = line.matchAll(/\d[\d_.]*(?:\s*(?:\*\*|<<|\*|-)\s*\d[\d_]*)*/gu);
  return [...terms].map(([term]) =>
    term
      .split(/\s+-\s+/u)
      .map(productOf)
      .reduce((a, b) => a - b),
  );
}

function productOf(text: string): number {
  const toNumber = (digits: string): number => Number(digits.replaceAll('_', ''));
  const [base, shift] = text.split('<<').map((part) => part.trim());
  if (shift !== undefined) return toNumber(base!) * 2 ** toNumber(shift);
  return text
    .split(/(?<!\*)\*(?!\*)/u)
    .map((factor) => factor.split('**').map((part) => toNumber(part.trim())))
    .map(([value, exponent]) => (exponent === undefined ? value! : value! ** exponent))
    .reduce((a, b) => a * b);
}
