import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { DECIDES_BITS, DECIDES_BITS_IF_SET } from './bits.ts';
import {
  checkConfig,
  listSettings,
  loadConfig,
  numericsHash,
  numericsOf,
  parseSetting,
  type Tree,
} from './load-config.ts';
import { ADAFACTOR } from '../optimizer.ts';
import type { RunConfig } from './schema.ts';

const BASE = `
name: tiny
model: { vocabSize: 512, dModel: 64, dKv: 16, dFf: 128, numLayers: 2, numDecoderLayers: 2, numHeads: 4 }
mixture: { path: mixture.yaml }
training: { steps: 10, rowsPerStep: 16, numLanes: 4, microbatchRows: 2 }
schedule: { kind: constant, value: 0.01 }
`;

async function configFile(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'exmix-config-'));
  const file = join(folder, 'config.yaml');
  await writeFile(file, text);
  return file;
}

describe('configuration', () => {
  test('defaults are filled in and file paths become absolute, relative to the file', async () => {
    const file = await configFile(BASE);
    const config = await loadConfig(file, []);
    assert.equal(config.mixture.path, join(file, '..', 'mixture.yaml'));
    assert.equal(config.mixture.denoisingRatio, 2);
    assert.equal(config.featureLengths.inputs, 512);
    assert.equal(config.cluster.listenHost, '127.0.0.1');
  });

  test('the URL of a prepared mixture stays as it is, in a file and in a setting; a path there becomes absolute', async () => {
    const url = 's3://bucket/mixtures/exmix';
    const file = await configFile(BASE);
    const preparedOf = async (value: string) =>
      (await loadConfig(file, [parseSetting(`mixture.prepared=${value}`)])).mixture.prepared;
    assert.equal(await preparedOf(url), url);
    assert.equal(await preparedOf('here'), resolve('here'));
    assert.equal(await preparedOf('file:///data/with%20space'), '/data/with space');
    const inFile = await configFile(BASE.replace('mixture: {', `mixture: { prepared: '${url}', `));
    assert.equal((await loadConfig(inFile, [])).mixture.prepared, url);
    const byFileUrl = await configFile(BASE.replace('mixture: {', `mixture: { prepared: 'file:///data/exmix', `));
    assert.equal((await loadConfig(byFileUrl, [])).mixture.prepared, '/data/exmix');
  });

  test('a setting wins over the file, and a later setting over an earlier one', async () => {
    const file = await configFile(BASE);
    const config = await loadConfig(file, [parseSetting('training.steps=3'), parseSetting('training.steps=4')]);
    assert.equal(config.training.steps, 4);
  });

  test('another kind of schedule drops the settings of the kind before, and keeps those that are given with it', async () => {
    const file = await configFile(BASE);
    const scheduleOf = async (...settings: string[]) => (await loadConfig(file, settings.map(parseSetting))).schedule;
    const expected = { kind: 'inverse-square-root', warmupSteps: 7, scale: 1 };
    for (const settings of [
      ['schedule.kind=inverse-square-root', 'schedule.warmupSteps=7'],
      ['schedule.warmupSteps=7', 'schedule.kind=inverse-square-root'],
    ])
      assert.deepEqual(await scheduleOf(...settings), expected);
    assert.deepEqual(await scheduleOf('schedule.kind=constant'), { kind: 'constant', value: 0.01 });
    await assert.rejects(scheduleOf('schedule.kind=inverse-square-root', 'schedule.value=3'), /schedule.value/u);
  });

  test('every problem is reported at once with its path, and a mistyped name gets the nearest one', async () => {
    const file = await configFile(BASE.replace('steps: 10', 'stepps: 10').replace('numLanes: 4', 'numLanes: -4'));
    await assert.rejects(
      loadConfig(file, [parseSetting('colective.link=direct')]),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        for (const part of [
          'training.stepps: no such setting, did you mean steps',
          'training.steps:',
          'training.numLanes:',
          'colective',
        ])
          assert.ok(error.message.includes(part), `${part} in ${error.message}`);
        return true;
      },
    );
  });

  for (const [setting, path] of [
    ['training.numLanes=6', 'training.numLanes'],
    ['training.numLanes=131072', 'training.numLanes'],
    ['training.rowsPerStep=18', 'training.rowsPerStep'],
    ['training.microbatchRows=3', 'training.microbatchRows'],
    ['cluster.minWorkers=5', 'cluster.minWorkers'],
    ['cluster.heartbeatTimeoutMs=10', 'cluster.heartbeatTimeoutMs'],
    [
      'schedule={kind: cosine, peak: 1, totalSteps: 10000}',
      'schedule.totalSteps: expected more than warmupSteps (10000)',
    ],
    ['schedule={kind: linear, peak: 1, totalSteps: 2, warmupSteps: 1, floor: 2}', 'schedule.floor: expected at most'],
    ['optimizer.kind=sgd', 'optimizer.kind'],
    ['optimizer.beta1=0.8', 'optimizer.beta1: no such setting'],
    ['optimizer={kind: adamw, beta2: 1}', 'optimizer.beta2'],
    ['optimizer.maxGradNorm=0', 'optimizer.maxGradNorm'],
  ] as const) {
    test(`refuses ${setting}`, async () => {
      const file = await configFile(BASE);
      await assert.rejects(loadConfig(file, [parseSetting(setting)]), (error: Error) => error.message.includes(path));
    });
  }

  for (const text of ['steps', '=3', 'a..b=1', 'a=[1']) {
    test(`refuses the setting ${text}`, () => {
      assert.throws(() => parseSetting(text), { code: 'CONFIG_INVALID' });
    });
  }

  test('a missing file is PATH_UNUSABLE and a file that is no mapping is CONFIG_INVALID', async () => {
    await assert.rejects(loadConfig('/nowhere/config.yaml', []), { code: 'PATH_UNUSABLE' });
    await assert.rejects(loadConfig(await configFile('- 1'), []), { code: 'CONFIG_INVALID' });
    await assert.rejects(loadConfig(await configFile('a: [1'), []), { code: 'CONFIG_INVALID' });
  });

  test('the numerics hash ignores steps, paths and the cluster, and sees seed, model and lanes', async () => {
    const file = await configFile(BASE);
    const hash = async (...settings: string[]) => numericsHash(await loadConfig(file, settings.map(parseSetting)));
    const base = await hash();
    assert.equal(await hash('training.steps=99', 'mixture.path=/x.yaml', 'cluster.minWorkers=2', 'name=other'), base);
    for (const setting of [
      'seed=2',
      'model.dFf=64',
      'training.numLanes=8',
      'training.gradientPrecision=bfloat16',
      'schedule.value=0.02',
      'mixture.rates={a: 1}',
      'optimizer.kind=adamw',
      'optimizer.maxGradNorm=1',
      'training.dropout.rate=0.1',
    ])
      assert.notEqual(await hash(setting), base, setting);
    // A younger setting at its default leaves the hashes of earlier runs as they are.
    assert.equal(await hash('training.dropout.rate=0'), base);
    assert.notEqual(
      await hash('training.dropout.rate=0.1'),
      await hash('training.dropout={rate: 0.1, broadcastLength: true}'),
    );
  });

  test('Adafactor is the default: naming it leaves the hash as it is, and a comparison names it', async () => {
    const load = async (...settings: string[]) => loadConfig(await configFile(BASE), settings.map(parseSetting));
    const config = await load();
    assert.deepEqual(config.optimizer, { kind: 'adafactor' });
    assert.equal(numericsHash(await load('optimizer.kind=adafactor')), numericsHash(config));
    assert.deepEqual(numericsOf(config)['optimizer'], { kind: 'adafactor' });
    assert.deepEqual((await load('optimizer.kind=adamw-rms', 'optimizer.maxGradNorm=1')).optimizer, {
      kind: 'adamw-rms',
      beta1: 0.9,
      beta2: 0.999,
      weightDecay: 0,
      maxGradNorm: 1,
    });
  });

  test('the best checkpoints are chosen by validation: without one, or by test, keepBest is refused', async () => {
    const file = await configFile(BASE);
    const load = (...settings: string[]) => loadConfig(file, settings.map(parseSetting));
    await load('checkpoint.keepBest.count=2', 'evaluation.everySteps=10');
    await assert.rejects(load('checkpoint.keepBest.count=2'), /checkpoint\.keepBest: expected evaluation\.everySteps/u);
    await assert.rejects(
      load('checkpoint.keepBest.count=2', 'evaluation.everySteps=10', 'evaluation.split=test'),
      /checkpoint\.keepBest: expected evaluation\.split validation, got test/u,
    );
  });

  test('a run ends early by validation: without one, or by test, stopWhen is refused', async () => {
    const file = await configFile(BASE);
    const load = (...settings: string[]) => loadConfig(file, settings.map(parseSetting));
    const patience = 'evaluation.stopWhen.patience=2';
    const { evaluation } = await load(patience, 'evaluation.everySteps=10');
    assert.deepEqual(evaluation.stopWhen, { metric: 'mean', patience: 2 });
    assert.equal(numericsHash(await load(patience, 'evaluation.everySteps=10')), numericsHash(await load()));
    await assert.rejects(load(patience), /evaluation\.stopWhen: expected evaluation\.everySteps beside it/u);
    await assert.rejects(
      load(patience, 'evaluation.everySteps=10', 'evaluation.split=test'),
      /evaluation\.stopWhen: expected evaluation\.split validation, got test/u,
    );
    await assert.rejects(load('evaluation.stopWhen.patience=0', 'evaluation.everySteps=10'), /patience/u);
  });

  test('a resolved config checks as itself', async () => {
    const config = await loadConfig(await configFile(BASE), []);
    assert.deepEqual(checkConfig(JSON.parse(JSON.stringify(config)), 'again'), config);
  });
});

/**
 * A config in which every setting has a value: none its default, but those of DECIDES_BITS_IF_SET. `optimizer` is that of before unless given.
 */
function everySetting(schedule: object, optimizer: object = ADAFACTOR): RunConfig {
  return checkConfig(
    {
      name: 'every-field',
      seed: 17,
      model: {
        vocabSize: 512,
        dModel: 64,
        dKv: 16,
        dFf: 128,
        numLayers: 2,
        numDecoderLayers: 3,
        numHeads: 4,
        feedForward: 'relu',
        tieEmbeddings: true,
        relativeAttentionNumBuckets: 16,
        relativeAttentionMaxDistance: 64,
        layerNormEpsilon: 1e-5,
      },
      featureLengths: { inputs: 64, targets: 32 },
      mixture: {
        path: '/m.yaml',
        tokenizer: '/t.model',
        given: '/given',
        tasks: ['a'],
        prepared: '/p',
        denoisingRatio: 1,
        denoising: 'ul2',
        rateCap: 5,
        temperature: 2,
        rates: { b: 2, a: 1 },
        windowDraws: 64,
      },
      training: {
        steps: 9,
        rowsPerStep: 8,
        numLanes: 4,
        microbatchRows: 2,
        gradientPrecision: 'bfloat16',
        zLoss: 0,
        proveEverySteps: 2,
        onNonFinite: 'skip',
      },
      schedule,
      optimizer,
      compute: { engine: 'wasm', device: 'cpu', threads: 2, precision: 'bfloat16', xla: true, allowTf32: true },
      cluster: {
        listenHost: '0.0.0.0',
        advertiseHost: 'node-1',
        listenPort: 1,
        minWorkers: 1,
        startWorkers: 2,
        maxWorkers: 3,
        rendezvousTimeoutMs: 1,
        heartbeatIntervalMs: 2,
        heartbeatTimeoutMs: 5,
        connectTimeoutMs: 6,
        stepTimeoutMs: 7,
        coordinatorGraceMs: 8,
        plansAhead: 2,
        rebalance: true,
      },
      feed: { sourceTimeoutMs: 5 },
      collective: {
        link: 'message',
        socket: 'tcp',
        bucketBytes: 128,
        frameBytes: 64,
        windowFrames: 3,
        maxWindowBytes: 1024,
      },
      checkpoint: {
        everySteps: 1,
        everyMinutes: 2,
        keepLast: 3,
        keepEverySteps: 4,
        keepBest: { metric: 'loss', count: 2 },
        maxShardBytes: 5,
      },
      evaluation: {
        everySteps: 3,
        split: 'validation',
        tasks: ['a'],
        maxExamples: 7,
        lossOnly: true,
        metrics: ['accuracy'],
        decoding: { numBeams: 2 },
        stopWhen: { metric: 'loss', patience: 4 },
      },
    },
    'the test',
  );
}

const SCHEDULES = [
  { kind: 'inverse-square-root', warmupSteps: 7, scale: 0.5 },
  { kind: 'constant', value: 0.25 },
] as const;

/** Optional settings that earlier versions did not have. */
const LATER_SETTINGS = [['mixture', 'denoising']] as const;

const EVERY_INIT = {
  from: '/runs/a',
  optimizer: 'keep',
  folder: '/runs/a/checkpoints/step-8',
  paramDigest: 'a'.repeat(64),
  optimizerDigest: 'b'.repeat(64),
  optimizerStep: 8,
} as const;

/** Those of later versions. */
const YOUNGER_SCHEDULES = (['linear', 'cosine'] as const).map((kind) => ({
  kind,
  ...{ warmupSteps: 7, warmupFrom: 0.5, totalSteps: 90, peak: 0.5, floor: 0.25 },
}));
const ALL_SCHEDULES: readonly object[] = [...SCHEDULES, ...YOUNGER_SCHEDULES];
const ADAM = { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weightDecay: 0.1, maxGradNorm: 2 };
const OPTIMIZERS: readonly object[] = [
  { ...ADAFACTOR, maxGradNorm: 2 },
  { kind: 'adamw', ...ADAM },
  { kind: 'adamw-rms', ...ADAM },
];

const kindOf = (section: object) => String((section as { kind?: unknown }).kind);
/** Names of settings that the others of a list have. */
const namesIn = (sections: readonly object[], but: object) =>
  sections.filter((other) => other !== but).flatMap((other) => Object.keys(other));

describe('the bits that settings decide', () => {
  test('every setting says whether it decides bits', () => {
    const silent = listSettings().filter(({ bits }) => bits === undefined);
    assert.deepEqual(
      silent.map(({ path }) => path.join('.')),
      [],
      'add .meta(DECIDES_BITS), .meta(KEEPS_BITS) or another one of shared/config/bits.ts at its place in the schema',
    );
    assert.ok(listSettings().length > 60);
  });

  const combinations = [
    ...ALL_SCHEDULES.map((schedule) => [schedule, OPTIMIZERS[0]!] as const),
    ...OPTIMIZERS.slice(1).map((optimizer) => [SCHEDULES[0], optimizer] as const),
  ];
  for (const [schedule, optimizer] of combinations)
    test(`a change of a setting changes the hash exactly if it decides bits, with ${kindOf(schedule)} and ${kindOf(optimizer)}`, () => {
      const config: RunConfig = { ...everySetting(schedule, optimizer), init: EVERY_INIT };
      const base = numericsHash(config);
      const ofOther = { schedule: namesIn(ALL_SCHEDULES, schedule), optimizer: namesIn(OPTIMIZERS, optimizer) };
      for (const { path, bits } of listSettings()) {
        const changed = structuredClone(config) as unknown as Tree;
        const parent = path.slice(0, -1).reduce<Tree>((at, part) => at[part] as Tree, changed);
        const name = path.at(-1)!;
        if (path[0] === 'schedule' && !(name in schedule) && ofOther.schedule.includes(name)) continue;
        if (path[0] === 'optimizer' && !(name in optimizer) && ofOther.optimizer.includes(name)) continue;
        assert.ok(parent[name] !== undefined, `${path.join('.')}: give it a value in everySetting`);
        parent[name] = 'another value';
        const hasChanged = numericsHash(changed as unknown as RunConfig) !== base;
        const decides = bits === DECIDES_BITS.bits || bits === DECIDES_BITS_IF_SET.bits;
        assert.equal(hasChanged, decides, path.join('.'));
      }
    });

  test('the hashes are those in the journals and checkpoints of earlier runs', async () => {
    const presets = join(import.meta.dirname, '../../deploy/presets');
    const mixture = parseSetting('mixture.path=/mixture.yaml');
    for (const [preset, hash] of [
      ['demo', '6ef92502db7b93dbb2af1c736745019bdcd87a09e7c1bee3b939aed49554f6b6'],
      ['ext5-small', 'd21850072f5aefce39061282909cbc4cab73aa1ca84fb7e592b9823d60ed2e1f'],
      ['ext5-base', 'b0e7cb794102eca48fb47f581c902bae4ce0b12d573df6aaa28b692b22dc91e6'],
      ['ext5-large', '998d0b6bcdf04ad1e4d9054639b940134644439a4fc681ae9092cae3e59ac123'],
    ] as const)
      assert.equal(numericsHash(await loadConfig(join(presets, `${preset}.yaml`), [mixture])), hash, preset);
    const ofEarlierVersions = (config: RunConfig): RunConfig => {
      const earlier = structuredClone(config);
      for (const [section, name] of LATER_SETTINGS) Reflect.deleteProperty(earlier[section], name);
      return earlier;
    };
    assert.deepEqual(
      SCHEDULES.map((schedule) => numericsHash(ofEarlierVersions(everySetting(schedule)))),
      [
        '8683bbaf39a0170bc2a7ae37c445e2094e1f682a4c446d8a7cc74da910af7d1e',
        '47e905c371d6bacacaf6b5055bb28ed8be904cae2f4753f1403517fc2c413cfd',
      ],
    );
  });
});
