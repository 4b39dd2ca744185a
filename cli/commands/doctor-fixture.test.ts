import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatFixtureReport, runDoctorFixture, type FixtureReport } from './doctor-fixture.ts';

const report: FixtureReport = {
  folder: 'golden/x',
  engine: 'wasm',
  device: 'd',
  fingerprint: 'f',
  reason: 'engine wasm: asked for by name',
  notes: ['the GPU sleeps'],
  checks: [
    { name: 'loss', difference: 3.44e-7, tolerance: 3e-6, passed: true },
    { name: 'worst gradient', difference: Number.NaN, tolerance: 2e-5, passed: false, where: 'shared.weight' },
    { name: 'greedy ids that differ', difference: 0, tolerance: 0, passed: true },
  ],
  passed: false,
};

describe('doctor --fixture', () => {
  test('prints each check with its difference, its tolerance and the tensor', () => {
    assert.equal(
      formatFixtureReport(report),
      [
        'fixture golden/x',
        'engine wasm: asked for by name (f)',
        'warning: the GPU sleeps',
        '  ok    loss                      3.4e-7  (tolerance 3.0e-6)',
        '  FAIL  worst gradient               NaN  (tolerance 2.0e-5)  shared.weight',
        '  ok    greedy ids that differ         0  (tolerance 0)',
        'FAILED: 1 of 3 checks beyond tolerance; do not train with this engine on this machine',
        '',
      ].join('\n'),
    );
    const passed = { ...report, passed: true, checks: report.checks.filter((check) => check.passed) };
    assert.match(formatFixtureReport(passed), /passed: all 2 checks within tolerance\n$/);
  });

  test('the report is plain JSON, NaN as null', () => {
    const parsed: unknown = JSON.parse(JSON.stringify(report));
    const [first, second, third] = report.checks;
    assert.deepEqual(parsed, { ...report, checks: [first, { ...second, difference: null }, third] });
  });

  test('passes on the golden folder', async () => {
    const real = await runDoctorFixture('golden/t5-tiny-v1_0', 'wasm');
    assert.ok(real.passed);
    assert.equal(real.engine, 'wasm');
  });
});
