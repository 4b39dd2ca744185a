import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deviceOfWorker, localRankOf, visibleDevices } from './visible-device.ts';

describe('one GPU a worker', () => {
  for (const [visible, numGpus, expected] of [
    [undefined, 3, ['0', '1', '2']],
    ['2,0', 4, ['2', '0']],
    [' 1 , 3', 4, ['1', '3']],
    ['GPU-8a1b,MIG-77', 8, ['GPU-8a1b', 'MIG-77']],
    ['', 4, []],
    ['-1', 4, []],
    ['0,-1,1', 4, ['0']],
    ['0,9,1', 4, ['0']],
    ['NoDevFiles', 0, ['NoDevFiles']],
  ] as const)
    test(`CUDA_VISIBLE_DEVICES ${visible ?? 'unset'} of ${numGpus} shows ${expected.join(' ') || 'nothing'}`, () => {
      assert.deepEqual(visibleDevices({ visible, numGpus }), expected);
    });

  test("the user's list is indexed by the local rank", () => {
    assert.equal(deviceOfWorker({ visible: '5,2', numGpus: 8, localRank: 1 }), '2');
    assert.equal(deviceOfWorker({ visible: undefined, numGpus: 8, localRank: 7 }), '7');
  });

  test('a worker without a GPU of its own is refused with the numbers', () => {
    assert.throws(() => deviceOfWorker({ visible: '5,2', numGpus: 8, localRank: 2 }), {
      code: 'ENGINE_UNAVAILABLE',
      message: /worker 2 of this host .* found 2 \(CUDA_VISIBLE_DEVICES is "5,2"\)/u,
    });
  });

  for (const [what, environment, expected] of [
    ['nothing is 0', {}, 0],
    ["torchrun's variable", { LOCAL_RANK: '3', SLURM_LOCALID: '1' }, 3],
    ["Slurm's variable", { SLURM_LOCALID: '1', CUDA_VISIBLE_DEVICES: '0,1,2,3' }, 1],
    ['a Slurm task that was dealt one GPU', { SLURM_LOCALID: '1', CUDA_VISIBLE_DEVICES: '3' }, 0],
  ] as const)
    test(`local rank: ${what}`, () => assert.equal(localRankOf(environment), expected));

  test('a local rank that is no number is refused', () => {
    for (const value of ['x', '', '-1', '1.5'])
      assert.throws(() => localRankOf({ LOCAL_RANK: value }), { code: 'ENGINE_UNAVAILABLE', message: /\$LOCAL_RANK/u });
  });
});
