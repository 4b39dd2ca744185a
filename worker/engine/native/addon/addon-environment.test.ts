import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addonEnvironment } from './addon-environment.ts';

const settings = { numThreads: 3, device: 'cpu', allowTf32: false, xla: false } as const;

test('a CPU engine sees no GPU, whatever the user shows it, and has its threads', () => {
  const environment = addonEnvironment(settings, { CUDA_VISIBLE_DEVICES: '0,1', TF_NUM_INTRAOP_THREADS: '64' });
  assert.deepEqual(environment, {
    TF_CPP_MIN_LOG_LEVEL: '2',
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    TF_NUM_INTRAOP_THREADS: '3',
    TF_NUM_INTEROP_THREADS: '3',
    TF_DETERMINISTIC_OPS: '1',
    TF_ENABLE_ONEDNN_OPTS: '1',
    NVIDIA_TF32_OVERRIDE: '0',
    CUDA_VISIBLE_DEVICES: '-1',
  });
});

test('a GPU engine leaves the visible devices as they are; TF32 is off unless allowed', () => {
  const gpu = { ...settings, device: 'gpu' } as const;
  assert.ok(!('CUDA_VISIBLE_DEVICES' in addonEnvironment(gpu, { CUDA_VISIBLE_DEVICES: '2' })));
  assert.equal(addonEnvironment(gpu, {})['NVIDIA_TF32_OVERRIDE'], '0');
  assert.ok(!('NVIDIA_TF32_OVERRIDE' in addonEnvironment({ ...gpu, allowTf32: true }, {})));
});

test("the user's own log level, allocator and XLA flags stay", () => {
  const given = {
    TF_CPP_MIN_LOG_LEVEL: '0',
    TF_FORCE_GPU_ALLOW_GROWTH: 'false',
    TF_XLA_FLAGS: '--tf_xla_min_cluster_size=9',
  };
  const environment = addonEnvironment({ ...settings, xla: true }, given);
  assert.equal(environment['TF_CPP_MIN_LOG_LEVEL'], '0');
  assert.equal(environment['TF_FORCE_GPU_ALLOW_GROWTH'], 'false');
  assert.match(environment['TF_XLA_FLAGS']!, /^--tf_xla_min_cluster_size=9 --tf_xla_auto_jit=2 /u);
});
